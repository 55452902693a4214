/* SPDX-License-Identifier: Apache-2.0 */
/* One end of the link: whole messages with descriptors over a SOCK_SEQPACKET socketpair, never blocking. What does not
 * fit in the socket waits in a bounded queue. A message longer than a record goes in fragments, which the other end puts
 * together again. It knows nothing of what the messages say. On its loop's thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct channel;
struct err;
struct loop;

enum {
	CHANNEL_MESSAGE_MAX = 8 << 20, /* bytes */
	CHANNEL_RECORD_MAX = 64 << 10, /* of a message in one record */
	CHANNEL_FDS_MAX = 64,	       /* per message; the kernel's limit is 253 */
	CHANNEL_QUEUE_MESSAGES = 16384,
	CHANNEL_QUEUE_BYTES = 64 << 20, /* a node full of pods with all that is known of them */
};

/* The callback takes the descriptors that it wants by setting their entry to -1; the rest is closed after it. */
typedef void (*channel_message_fn)(const uint8_t *bytes, size_t len, int *fds, size_t fd_count, void *arg);
/* The link is unusable: the peer closed it (err->code -EPIPE), or broke the rules. Called once, never from within
 * channel_send(); the owner frees the channel, in the callback if it likes. */
typedef void (*channel_closed_fn)(const struct err *err, void *arg);

/* A pair with large buffers where that is allowed (CAP_NET_ADMIN). Both ends are close-on-exec and non-blocking. */
int channel_pair(int fds[2], struct err *err);
void channel_buffers(int fd); /* the same for one end that was come by otherwise */
/* Takes fd, also on failure. */
int channel_new(struct loop *loop, int fd, channel_message_fn on_message, channel_closed_fn on_closed, void *arg,
		struct channel **out);
/* The longest message that the other end may send; CHANNEL_MESSAGE_MAX unless it is said. */
void channel_limit(struct channel *channel, size_t bytes);
void channel_free(struct channel *channel); /* NULL is fine; what is still queued is lost */
/* Copies bytes and duplicates descriptors when they must wait; the caller keeps its own. -EMSGSIZE: the message is too
 * long; -ENOBUFS: the queue is full; -EPIPE: closed; -ENOMEM. */
int channel_send(struct channel *channel, const uint8_t *bytes, size_t len, const int *fds, size_t fd_count);
/* Share of the queue that is in use, 0 to 100. */
unsigned int channel_fill(const struct channel *channel);
