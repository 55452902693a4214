// SPDX-License-Identifier: Apache-2.0
/*
 * Load for benchmarks: a server and the clients that measure against it. Every client prints one line of JSON.
 *
 *	netload serve --echo PORT --sink PORT [--threads N]	answers; sink counts bytes and tells the count at EOF
 *	netload bulk ADDRESS PORT [--streams N] [--seconds T]	one-way throughput, until the last byte has arrived
 *	netload rr ADDRESS PORT [--streams N] [--seconds T]	request, response, request, ... on open connections
 *	netload crr ADDRESS PORT [--streams N] [--seconds T]	connect, request, response, close
 *	netload connect ADDRESS PORT [--seconds T]		the connect() call alone
 *	netload idle ADDRESS PORT --count N			N connections, held open until stdin ends
 *	netload watch ADDRESS PORT --want ok|refused		when connect() first has this outcome
 *
 * Clients are a blocking thread per stream: on a machine with few cores an event loop in the load generator would be
 * measured too. Addresses are numeric; ::ffff:a.b.c.d makes an AF_INET6 socket that talks IPv4.
 */
#include "tests/bench/netload.h"

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STREAMS_MAX 256
#define WARMUP_NS 200000000ull
/* 256 linear steps in each power of two: a value is off by at most 0.4 %. */
#define HIST_BITS 8
#define HIST_STEPS (1u << HIST_BITS)
#define HIST_SIZE (40u * HIST_STEPS)

struct hist {
	uint64_t count;
	uint32_t bucket[HIST_SIZE];
};

struct options {
	struct sockaddr_storage to;
	socklen_t to_len;
	double seconds;
	size_t size;
	unsigned int streams, threads, count;
	uint16_t echo_port, sink_port;
	bool want_ok;
};

static struct options opt = { .seconds = 2, .size = 64, .streams = 1, .threads = 2 };

struct stream {
	pthread_t thread;
	pthread_barrier_t *start;
	uint64_t units, warmup_units, begin_ns, end_ns;
	struct hist hist;
};

void fail(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("{\"error\": \"%s\"}\n", text);
	fflush(stdout);
	_exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static unsigned int hist_index(uint64_t ns)
{
	if (ns < HIST_STEPS)
		return (unsigned int)ns;

	unsigned int shift = 63u - (unsigned int)__builtin_clzll(ns) - HIST_BITS;
	unsigned int index = (shift + 1) * HIST_STEPS + (unsigned int)((ns >> shift) - HIST_STEPS);

	return index < HIST_SIZE ? index : HIST_SIZE - 1;
}

static double hist_value(unsigned int index)
{
	if (index < HIST_STEPS)
		return index;

	unsigned int shift = index / HIST_STEPS - 1;

	return (double)((uint64_t)(HIST_STEPS + index % HIST_STEPS) << shift) + (double)(1ull << shift) / 2;
}

static void hist_add(struct hist *hist, uint64_t ns)
{
	hist->bucket[hist_index(ns)]++;
	hist->count++;
}

static void hist_merge(struct hist *into, const struct hist *from)
{
	for (unsigned int i = 0; i < HIST_SIZE; i++)
		into->bucket[i] += from->bucket[i];
	into->count += from->count;
}

static double hist_quantile_us(const struct hist *hist, double quantile)
{
	uint64_t rank = (uint64_t)(quantile * (double)hist->count), seen = 0;

	for (unsigned int i = 0; i < HIST_SIZE; i++) {
		seen += hist->bucket[i];
		if (seen > rank)
			return hist_value(i) / 1000;
	}
	return 0;
}

void socket_tune(int fd)
{
	struct timeval timeout = { .tv_sec = IO_TIMEOUT_S };
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

/* Returns a connected socket; the time of the connect() call goes to *took_ns unless NULL. */
static int dial(uint64_t *took_ns)
{
	int fd = socket(opt.to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket: %s", strerror(errno));
	socket_tune(fd);

	uint64_t begin = now_ns();
	int rc = connect(fd, (const struct sockaddr *)&opt.to, opt.to_len);

	if (took_ns)
		*took_ns = now_ns() - begin;
	if (rc < 0)
		fail("connect: %s", strerror(errno));
	return fd;
}

static void send_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			fail("send: %s", strerror(errno));
		data += n;
		len -= (size_t)n;
	}
}

static void recv_all(int fd, char *data, size_t len)
{
	while (len) {
		ssize_t n = recv(fd, data, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			fail("recv: %s", n ? strerror(errno) : "closed by the other end");
		data += n;
		len -= (size_t)n;
	}
}

static void exchange(int fd, char *data)
{
	send_all(fd, data, opt.size);
	recv_all(fd, data, opt.size);
}

static uint64_t deadline_after(uint64_t begin_ns)
{
	return begin_ns + (uint64_t)(opt.seconds * 1e9);
}

/* The sink's count after the half-close proves that every byte arrived, and that half-close works on this path. */
static void *bulk_stream(void *arg)
{
	struct stream *stream = arg;
	char *data = malloc(BULK_BYTES);
	uint64_t arrived = 0;
	int fd = dial(NULL);

	if (!data)
		fail("out of memory");
	memset(data, 'w', BULK_BYTES);
	pthread_barrier_wait(stream->start);
	stream->begin_ns = now_ns();
	for (uint64_t end = deadline_after(stream->begin_ns); now_ns() < end; stream->units += BULK_BYTES)
		send_all(fd, data, BULK_BYTES);
	shutdown(fd, SHUT_WR);
	recv_all(fd, (char *)&arrived, sizeof(arrived));
	stream->end_ns = now_ns();
	if (arrived != stream->units)
		fail("%llu bytes sent, %llu arrived", (unsigned long long)stream->units, (unsigned long long)arrived);
	close(fd);
	free(data);
	return NULL;
}

static void *rr_stream(void *arg)
{
	struct stream *stream = arg;
	char data[MESSAGE_MAX] = { 0 };
	int fd = dial(NULL);

	for (uint64_t end = now_ns() + WARMUP_NS; now_ns() < end; stream->warmup_units++)
		exchange(fd, data);
	pthread_barrier_wait(stream->start);
	stream->begin_ns = stream->end_ns = now_ns();
	for (uint64_t end = deadline_after(stream->begin_ns); stream->end_ns < end; stream->units++) {
		exchange(fd, data);
		uint64_t now = now_ns();
		hist_add(&stream->hist, now - stream->end_ns);
		stream->end_ns = now;
	}
	close(fd);
	return NULL;
}

static void *crr_stream(void *arg)
{
	struct stream *stream = arg;
	char data[MESSAGE_MAX] = { 0 };

	pthread_barrier_wait(stream->start);
	stream->begin_ns = stream->end_ns = now_ns();
	for (uint64_t end = deadline_after(stream->begin_ns); stream->end_ns < end; stream->units++) {
		int fd = dial(NULL);
		exchange(fd, data);
		close(fd);
		uint64_t now = now_ns();
		hist_add(&stream->hist, now - stream->end_ns);
		stream->end_ns = now;
	}
	return NULL;
}

/* Closes by reset: no port stays in TIME_WAIT, so a long run never runs out of them. */
static void *connect_stream(void *arg)
{
	const struct linger reset = { .l_onoff = 1 };
	struct stream *stream = arg;

	pthread_barrier_wait(stream->start);
	stream->begin_ns = now_ns();
	for (uint64_t end = deadline_after(stream->begin_ns); now_ns() < end; stream->units++) {
		uint64_t took;
		int fd = dial(&took);
		hist_add(&stream->hist, took);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
	}
	stream->end_ns = now_ns();
	return NULL;
}

static int run_streams(void *(*body)(void *), const char *unit)
{
	struct stream *streams = calloc(opt.streams, sizeof(*streams));
	struct hist *total = calloc(1, sizeof(*total));
	pthread_barrier_t start;
	double per_second = 0;
	uint64_t units = 0, all = 0;

	if (!streams || !total)
		fail("out of memory");
	pthread_barrier_init(&start, NULL, opt.streams);
	for (unsigned int i = 0; i < opt.streams; i++) {
		streams[i].start = &start;
		if (pthread_create(&streams[i].thread, NULL, body, &streams[i]))
			fail("cannot start thread %u", i);
	}
	for (unsigned int i = 0; i < opt.streams; i++) {
		pthread_join(streams[i].thread, NULL);
		hist_merge(total, &streams[i].hist);
		units += streams[i].units;
		all += streams[i].units + streams[i].warmup_units;
		per_second += (double)streams[i].units * 1e9 / (double)(streams[i].end_ns - streams[i].begin_ns);
	}
	printf("{\"%s\": %llu, \"with_warmup\": %llu, \"per_second\": %.1f, ", unit, (unsigned long long)units,
	       (unsigned long long)all, per_second);
	printf("\"p50_us\": %.2f, \"p90_us\": %.2f, \"p99_us\": %.2f}\n", hist_quantile_us(total, 0.5),
	       hist_quantile_us(total, 0.9), hist_quantile_us(total, 0.99));
	free(streams);
	free(total);
	return 0;
}

/* Each connection makes one round trip: it is open at the far end too, not only at whoever accepted it. */
static int run_idle(void)
{
	char data[MESSAGE_MAX] = { 0 };
	int *fds = calloc(opt.count, sizeof(*fds));

	if (!fds)
		fail("out of memory");
	for (unsigned int i = 0; i < opt.count; i++) {
		fds[i] = dial(NULL);
		exchange(fds[i], data);
	}
	printf("{\"open\": %u}\n", opt.count);
	fflush(stdout);
	while (read(STDIN_FILENO, data, sizeof(data)) > 0)
		;
	for (unsigned int i = 0; i < opt.count; i++)
		close(fds[i]);
	free(fds);
	return 0;
}

/* An attempt: connect and, as a proxy accepts before it knows, one round trip. */
static bool attempt(void)
{
	struct timeval timeout = { .tv_usec = 200000 };
	const struct linger reset = { .l_onoff = 1 };
	char data[MESSAGE_MAX] = { 0 };
	int fd = socket(opt.to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	bool ok = connect(fd, (const struct sockaddr *)&opt.to, opt.to_len) == 0 &&
		  send(fd, data, 1, MSG_NOSIGNAL) == 1 && recv(fd, data, 1, 0) == 1;
	close(fd);
	return ok;
}

static int run_watch(void)
{
	const struct timespec pause = { .tv_nsec = 200000 };
	uint64_t give_up = deadline_after(now_ns()), tries = 0;

	/* The reader of the first line knows that watching has begun. */
	printf("{\"watching\": true}\n");
	fflush(stdout);
	for (; now_ns() < give_up; tries++) {
		if (attempt() == opt.want_ok) {
			printf("{\"at_ns\": %llu, \"tries\": %llu}\n", (unsigned long long)now_ns(),
			       (unsigned long long)tries);
			return 0;
		}
		nanosleep(&pause, NULL);
	}
	fail("no connect() %s in %.1f s", opt.want_ok ? "succeeded" : "was refused", opt.seconds);
}

static int run_serve(void)
{
	serve_run(opt.echo_port, opt.sink_port, opt.threads);
}

static void parse_target(const char *address, const char *port)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	int rc = getaddrinfo(address, port, &hints, &found);

	if (rc)
		fail("%s port %s: %s", address, port, gai_strerror(rc));
	memcpy(&opt.to, found->ai_addr, found->ai_addrlen);
	opt.to_len = found->ai_addrlen;
	freeaddrinfo(found);
}

static unsigned long parse_number(const char *name, const char *text, unsigned long max)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*end || end == text || value == 0 || value > max)
		fail("--%s %s: not a number from 1 to %lu", name, text, max);
	return value;
}

static void parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "streams", required_argument, NULL, 's' },
		{ "seconds", required_argument, NULL, 't' },
		{ "size", required_argument, NULL, 'z' },
		{ "count", required_argument, NULL, 'c' },
		{ "threads", required_argument, NULL, 'w' },
		{ "echo", required_argument, NULL, 'e' },
		{ "sink", required_argument, NULL, 'k' },
		{ "want", required_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};

	for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		switch (c) {
		case 's':
			opt.streams = (unsigned int)parse_number("streams", optarg, STREAMS_MAX);
			break;
		case 't':
			opt.seconds = strtod(optarg, NULL);
			break;
		case 'z':
			opt.size = parse_number("size", optarg, MESSAGE_MAX);
			break;
		case 'c':
			opt.count = (unsigned int)parse_number("count", optarg, 1000000);
			break;
		case 'w':
			opt.threads = (unsigned int)parse_number("threads", optarg, 64);
			break;
		case 'e':
			opt.echo_port = (uint16_t)parse_number("echo", optarg, UINT16_MAX);
			break;
		case 'k':
			opt.sink_port = (uint16_t)parse_number("sink", optarg, UINT16_MAX);
			break;
		case 'o':
			opt.want_ok = strcmp(optarg, "ok") == 0;
			break;
		default:
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name, *unit;
		void *(*stream)(void *);
		int (*run)(void);
	} modes[] = {
		{ "bulk", "bytes", bulk_stream, NULL },	    { "rr", "exchanges", rr_stream, NULL },
		{ "crr", "connections", crr_stream, NULL }, { "connect", "connections", connect_stream, NULL },
		{ "idle", NULL, NULL, run_idle },	    { "watch", NULL, NULL, run_watch },
		{ "serve", NULL, NULL, run_serve },
	};
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	parse_options(argc, argv);
	if (argc - optind == 3)
		parse_target(argv[optind + 1], argv[optind + 2]);
	for (size_t i = 0; optind < argc && i < sizeof(modes) / sizeof(*modes); i++) {
		if (strcmp(argv[optind], modes[i].name) != 0)
			continue;
		if (argc - optind != (modes[i].run == run_serve ? 1 : 3))
			break;
		return modes[i].run ? modes[i].run() : run_streams(modes[i].stream, modes[i].unit);
	}
	fprintf(stderr, "usage: netload serve|bulk|rr|crr|connect|idle|watch [ADDRESS PORT] [options]\n");
	return 2;
}
