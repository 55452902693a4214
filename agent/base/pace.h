/* SPDX-License-Identifier: Apache-2.0 */
/* When a loop that is never idle should rest for a moment. With a processor to itself it reads whatever has come as soon as
 * it has come: piece by piece, at the price of a wait, a read, an acknowledgement and a write for each; and its peers, who get
 * single pieces then, do the same. With 20 us in between the same work takes half the system calls, and more of it gets
 * done. It is nothing for a loop that waits for its peers (a lone request would wait, too), nor for one that finds a batch
 * each time anyway. Whether it gathers anything shows after some rests in a row, since the peers have to join in; if not,
 * it is given up for a while. Pure: time is an argument. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { PACE_REST_NS = 20000 };

/* Zeroed at first. */
struct pace {
	uint64_t waits_ns, woke_ns; /* the last wait began, and ended */
	uint32_t events;	    /* that it found */
	uint32_t together;	    /* messages that came behind others in one read since, told by who reads */
	uint32_t busy;		    /* waits in a row that found something at once */
	uint32_t futile;	    /* rests that gathered too little, less twice those that gathered enough */
	uint32_t skip;		    /* waits until rests are tried again */
	bool rested;		    /* before this wait */
};

/* Before a wait: true when the loop should sleep for PACE_REST_NS first. */
bool pace_before(struct pace *p, uint64_t now_ns);
/* After it. */
void pace_after(struct pace *p, uint64_t now_ns, uint32_t events);
