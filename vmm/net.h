/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A virtio network card (virtio 1.2, 5.1) before a tap device. Checksums and segmentation are
 * passed through both ways (IFF_VNET_HDR); received packets may span buffers. */
#ifndef VPS_VMM_NET_H
#define VPS_VMM_NET_H

#include <linux/virtio_net.h>

#include "vmm/virtio_mmio.h"

/* A packet as the tap gives it: the header and at most 64 KiB with an Ethernet header. */
#define NET_PACKET_MAX (sizeof(struct virtio_net_hdr_v1) + 65535 + 18)

struct net_opts {
	int tap; /* nonblocking, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR; stays the caller's */
	uint8_t mac[6];
	uint16_t mtu;
};

struct net {
	struct vdev dev;
	struct virtio_net_config config;
	struct loop *loop;
	struct loop_source tap;
	bool tap_offloads; /* false: a tap without TUNSETOFFLOAD (a socket, in tests) */
	/* in: what the guest received; dropped: of the guest, and the tap did not take it */
	uint64_t in_bytes, in_packets, out_bytes, out_packets, dropped;
	uint32_t have; /* bytes in packet, waiting for the guest's buffers */
	struct vq_chain chain;
	uint8_t packet[NET_PACKET_MAX];
};

int net_init(struct net *n, const struct gmem *mem, const struct net_opts *o, struct vps_err *err);
/* Serve in that loop. 0 or -errno. */
int net_attach_loop(struct net *n, struct loop *l);
void net_done(struct net *n);

#endif
