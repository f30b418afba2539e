/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For audit: what is leased. */
#ifndef VPS_NETNS_LEASE_H
#define VPS_NETNS_LEASE_H

#include "netns/priv.h"

/* All leases; fn's negative result stops. */
int lease_each(struct net_host *h, int (*fn)(const char *name, unsigned id, void *arg), void *arg);
/* Give back one, if it is still id's. */
int lease_drop(struct net_host *h, const char *name, unsigned id);

#endif
