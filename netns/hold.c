/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's link as if its cable were pulled, at the host's side: routes and addresses stay. */
#include <string.h>

#include "base/mem.h"
#include "netns/nft.h"

int net_hold(struct net_host *h, unsigned id, const struct net_plan *p, bool held,
	     struct vps_err *err)
{
	auto_done(nft_batch_done) struct nft_batch b = {0};
	struct nft_elem e = {.set = SET_HELD};
	struct vps_err why = {0};
	char name[IFNAMSIZ] = "";
	int r;

	if (p->mode != NET_ROUTED && p->mode != NET_BRIDGE)
		return 0;
	e.table = p->mode == NET_BRIDGE ? NFT_T_BRIDGE : NFT_T_INET;
	memcpy(e.key, net_ifname(h, id, name), IFNAMSIZ);
	r = held ? nft_ensure(h, p->mode, err) : 0;
	if (r < 0)
		return r;
	nft_batch_begin(&b, 0);
	if (held)
		nft_add_elems(h, &b, &e, 1);
	else
		nft_del_elems(h, &b, &e, 1);
	r = nft_commit(h, &b, &why);
	if (r == -ENOENT && !held)
		return 0;
	return r < 0 ? vps_err_set(err, why.code, "%s", why.msg) : 0;
}
