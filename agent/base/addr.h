/* SPDX-License-Identifier: Apache-2.0 */
/* IP addresses as 16 bytes, IPv4 v4-mapped (::ffff:a.b.c.d): one code path for both families.
 * Pure functions. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct err;

struct addr {
	uint8_t b[16]; /* network order */
};

struct addr_port {
	struct addr addr;
	uint16_t port; /* host order */
};

struct cidr {
	struct addr addr; /* host bits are zero */
	uint8_t bits;	  /* 0..128; an IPv4 prefix /n is stored as 96 + n */
};

enum { ADDR_TEXT_MAX = 48, ADDR_PORT_TEXT_MAX = 56, CIDR_TEXT_MAX = 52 };

bool addr_is_v4(const struct addr *a);
bool addr_is_zero(const struct addr *a); /* :: and ::ffff:0.0.0.0 */
bool addr_is_loopback(const struct addr *a);
int addr_cmp(const struct addr *a, const struct addr *b);
bool addr_eq(const struct addr *a, const struct addr *b);
bool addr_port_eq(const struct addr_port *a, const struct addr_port *b);

/* "10.0.0.1", "fd00::1", "::ffff:10.0.0.1"; no zone, no port. 0 or -EINVAL. */
int addr_parse(const char *text, struct addr *out);
/* "10.0.0.1:80", "[fd00::1]:80". 0 or -EINVAL. */
int addr_port_parse(const char *text, struct addr_port *out);
/* "10.0.0.0/8", "fd00::/8", or a bare address (all bits). 0 or -EINVAL. Host bits are cleared. */
int cidr_parse(const char *text, struct cidr *out);
bool cidr_contains(const struct cidr *c, const struct addr *a);

/* Text forms; IPv4 as a dotted quad, IPv6 as RFC 5952; with a port as "a.b.c.d:p" or "[v6]:p". Return buf. */
const char *addr_text(const struct addr *a, char buf[ADDR_TEXT_MAX]);
const char *addr_port_text(const struct addr_port *a, char buf[ADDR_PORT_TEXT_MAX]);
const char *cidr_text(const struct cidr *c, char buf[CIDR_TEXT_MAX]);

/* AF_INET and AF_INET6 sockaddrs to and from; -EAFNOSUPPORT for other families. */
int addr_from_sockaddr(const struct sockaddr *sa, struct addr_port *out);
/* As AF_INET6 (v4-mapped for IPv4), for dual-stack sockets. */
void addr_to_sockaddr6(const struct addr_port *a, struct sockaddr_in6 *out);
/* AF_INET for IPv4, AF_INET6 otherwise; returns the length. */
socklen_t addr_to_sockaddr(const struct addr_port *a, struct sockaddr_storage *out);
