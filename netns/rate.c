/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shaping towards the guest: a token bucket on the host's end, out of the tenant's reach. */
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "netns/link.h"

#define LATENCY_MS 50 /* longest wait in the queue */
#define BURST_MS   10

static int del_root(struct nl *n, int index)
{
	struct tcmsg m = {.tcm_family = AF_UNSPEC, .tcm_ifindex = index, .tcm_parent = TC_H_ROOT};
	int r = nl_talk(n, nl_begin(n, RTM_DELQDISC, 0, &m, sizeof(m)), NULL, NULL);

	/* ENOENT: only the default queue is there. */
	return r == -ENOENT || r == -EINVAL ? 0 : r;
}

static uint32_t clamp32(uint64_t v, uint64_t low)
{
	if (v < low)
		v = low;
	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

int rate_set(struct nl *n, int index, uint64_t bits, uint32_t mtu)
{
	struct tcmsg m = {.tcm_family = AF_UNSPEC,
			  .tcm_ifindex = index,
			  .tcm_parent = TC_H_ROOT,
			  .tcm_handle = TC_H_MAKE(1u << 16, 0)};
	uint64_t rate = bits / 8;

	if (!bits)
		return del_root(n, index);

	/* A packet longer than the bucket would never pass; tbf cuts larger GSO packets up itself.
	 */
	uint32_t burst = clamp32(rate * BURST_MS / 1000, 2ull * (mtu + ETH_HLEN));
	uint32_t limit = clamp32(rate * LATENCY_MS / 1000 + burst, 32ull * (mtu + ETH_HLEN));
	struct tc_tbf_qopt opt = {
		.rate = {.linklayer = TC_LINKLAYER_ETHERNET,
			 .rate = rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate},
		.limit = limit,
	};
	struct nlmsghdr *h = nl_begin(n, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof(m));

	nl_put_str(h, TCA_KIND, "tbf");

	struct nlattr *o = nl_nest(h, TCA_OPTIONS);

	nl_put(h, TCA_TBF_PARMS, &opt, sizeof(opt));
	nl_put_u32(h, TCA_TBF_BURST, burst);
	if (rate > UINT32_MAX)
		nl_put(h, TCA_TBF_RATE64, &rate, sizeof(rate));
	nl_nest_end(h, o);
	return nl_talk(n, h, NULL, NULL);
}
