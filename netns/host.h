/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Settings of the host's own network stack, by procfs: of the namespace that the caller is in,
 * which must be the one in which net_host_open was called. */
#ifndef VPS_NETNS_HOST_H
#define VPS_NETNS_HOST_H

#include "netns/priv.h"

/* Forwarding on (keeping the host's own routes), neighbour tables large enough. Only ever raises.
 */
int host_prepare(bool v6, struct vps_err *err);
bool host_sysctl_is(const char *path, const char *value);
/* The host's end of a guest's link. 0 or -errno. */
int host_link_sysctls(const char *ifname, bool v6, bool routed);
/* Proxy ARP answers without the random wait. */
int host_link_answer_at_once(const char *ifname);

#endif
