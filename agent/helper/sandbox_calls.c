/* SPDX-License-Identifier: Apache-2.0 */
/* An allow list. The helper uses sockets that it is given, memory and threads: it can neither make a socket, open a
 * file, start a program, nor map executable memory. */
#include "agent/helper/sandbox_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"

static const int allowed[] = {
	/* bytes */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendto),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvmmsg),
	SCMP_SYS(sendmmsg),
	SCMP_SYS(splice),
	SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	/* sockets that it was given */
	SCMP_SYS(accept4),
	SCMP_SYS(bind),
	SCMP_SYS(connect),
	SCMP_SYS(shutdown),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(setsockopt),
	SCMP_SYS(getsockopt),
	/* the loop */
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(eventfd2),
	SCMP_SYS(pipe2),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	/* memory and threads */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(sched_yield),
	SCMP_SYS(gettid),
	SCMP_SYS(getpid),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(membarrier),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(set_tid_address),
	/* signals, time, the rest */
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(getrandom),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),
};

/* Libraries look for files of theirs (OpenSSL's configuration, locales): in an empty root there are none. */
static const int absent[] = { SCMP_SYS(open),	    SCMP_SYS(openat),	SCMP_SYS(stat),	      SCMP_SYS(access),
			      SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(statx) };

static int calls_memory(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp not_exec = { .arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = PROT_EXEC };
	int rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, &not_exec);
	return rc < 0 ? rc : seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, &not_exec);
}

static int calls_threads(scmp_filter_ctx ctx)
{
	/* Threads, not processes. The flags of clone3 are out of a filter's sight; without it glibc takes clone. */
	const struct scmp_arg_cmp thread =
		SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM);
	const struct scmp_arg_cmp self = { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)getpid() };
	int rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, &thread);
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return rc < 0 ? rc : seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &self); /* abort() */
}

static int calls_with_request(scmp_filter_ctx ctx)
{
	static const int fcntls[] = { F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC };
	static const unsigned int ioctls[] = { FIONBIO, FIONREAD };
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(fcntls); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				      SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)fcntls[i]));
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(ioctls); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				      SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, ioctls[i]));
	return rc;
}

/* What the sanitizers' runtimes need besides; empty in a build for users. */
static int calls_sanitizers(scmp_filter_ctx ctx)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	static const int more[] = { SCMP_SYS(prctl),	  SCMP_SYS(prlimit64), SCMP_SYS(getrlimit), SCMP_SYS(mincore),
				    SCMP_SYS(arch_prctl), SCMP_SYS(getppid),   SCMP_SYS(lseek) };
	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, more[i], 0);
		if (rc < 0)
			return rc;
	}
#endif
	(void)ctx;
	return 0;
}

/* Calls that this architecture doesn't have are skipped. */
static int calls_add(scmp_filter_ctx ctx, uint32_t action, const int *calls, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int rc = calls[i] < 0 ? 0 : seccomp_rule_add(ctx, action, calls[i], 0);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int sandbox_calls_restrict(struct err *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return err_set(err, -ENOMEM, "sandbox: make the seccomp filter");
	int rc = calls_add(ctx, SCMP_ACT_ALLOW, allowed, ARRAY_SIZE(allowed));
	if (rc == 0)
		rc = calls_add(ctx, SCMP_ACT_ERRNO(ENOENT), absent, ARRAY_SIZE(absent));
	if (rc == 0)
		rc = calls_memory(ctx);
	if (rc == 0)
		rc = calls_threads(ctx);
	if (rc == 0)
		rc = calls_with_request(ctx);
	if (rc == 0)
		rc = calls_sanitizers(ctx);
	/* A tree instead of a list of comparisons: the filter runs at every system call. */
	if (rc == 0)
		seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (rc == 0)
		rc = seccomp_load(ctx);
	seccomp_release(ctx);
	return rc < 0 ? err_sys(err, rc, "sandbox: restrict system calls (does the kernel have seccomp filters?)") : 0;
}
