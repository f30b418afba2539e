/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames that a hostile guest could send. */
#ifndef VPS_TEST_NETNS_FRAMES_H
#define VPS_TEST_NETNS_FRAMES_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who is who. Addresses as text, MACs as bytes. */
struct cast {
	bool bridge;
	const char *me4, *me6, *peer4, *peer6, *host4, *host6, *far4, *far6;
	char ll[48];		       /* my own link-local address */
	uint8_t me[6], peer[6], gw[6]; /* gw: where a routed guest sends its frames to */
};

#define FRAME_MARK "SPOOFED!" /* in the payload of all that have one */

struct frame {
	const char *name;
	uint8_t b[2048];
	size_t len;
};

enum { FRAME_ROUTED = 1, FRAME_BRIDGE = 2 };
/* Number of kinds. Kind k; false when it does not apply to this cast. Kind 0 and 1 are honest
 * (IPv4, IPv6): they must arrive. */
size_t frame_kinds(void);
bool frame_make(size_t k, const struct cast *c, struct frame *ret);
#define FRAME_HONEST 2

#endif
