/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between nft*.c only. */
#ifndef VPS_NETNS_NFT_IO_H
#define VPS_NETNS_NFT_IO_H

#include <stdio.h> /* libnftnl's headers want it */

#include "netns/nft.h"

/* More chunks than the largest record has. */
#define NFT_REC_CHUNKS 256

/* A request of one message outside a batch; goes with nl_talk(&h->nft, …). */
struct nlmsghdr *nft_query(struct net_host *h, uint16_t type, int family, uint16_t flags);
/* The length that a record's first chunk tells, 0 when it is broken. */
size_t nft_pack_len(const uint8_t *b, size_t len);

#endif
