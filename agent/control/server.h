/* SPDX-License-Identifier: Apache-2.0 */
/* One listening HTTP server on the loop, over libmicrohttpd. Internal to agent/control; loop thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct control;
struct err;
struct loop;
struct server;

/* Takes the listening fd, also on error. admin: the unix socket, where peers are judged by their credentials. */
int server_new(struct loop *loop, struct control *control, int fd, bool admin, struct server **out, struct err *err);
void server_free(struct server *server); /* after everything that is suspended was resumed; NULL is fine */
void server_run_soon(struct server *server);

/* socket.c: -> fd or -errno */
int socket_listen_unix(const char *path, const char *group, uint64_t *inode, struct err *err);
int socket_listen_tcp(const char *listen, uint16_t *port, struct err *err);
