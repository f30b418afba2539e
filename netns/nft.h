/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nftables: what is in our tables and how it gets there.
 *
 * Rules are constant; what differs between guests are elements of named sets, keyed by interface
 * name. A guest's elements follow from its plan alone (nft_elems_of, pure), and the plan itself,
 * packed, lies beside them in the set "rec", as user data of elements (ifname . n). So element and
 * record come and go in one transaction, detaching needs only the id, and a table can be rebuilt
 * from itself.
 */
#ifndef VPS_NETNS_NFT_H
#define VPS_NETNS_NFT_H

#include "netns/priv.h"

enum nft_table { NFT_T_INET, NFT_T_ARP, NFT_T_BRIDGE, NFT_T_COUNT };

enum nft_set {
	SET_GUESTS, /* ifname */
	SET_MACS,   /* ifname . mac */
	SET_SRC4,   /* ifname . address */
	SET_SRC6,
	SET_PPS, /* ifname, limit over */
	SET_RATE,
	SET_REC,   /* ifname . n, user data */
	SET_CTCAP, /* ifname : class of its cap on tracked connections */
	SET_CONNS, /* ifname . class and part, counted by rules; the kernel drops idle ones */
	SET_SELF,  /* ifname . ifname */
	SET_PUB4,  /* proto . port : address . port */
	SET_PUB6,
	SET_PUB4A, /* host address . proto . port : address . port */
	SET_PUB6A,
	SET_HELD, /* ifname; net_hold */
	SET_ARP4, /* ifname . mac . ARP sender mac . ARP sender address */
	SET_COUNT,
};

struct nft_set_def {
	const char *name;
	uint8_t key_len, data_len;
	uint32_t key_type, data_type; /* nft(8)'s numbers, for display only */
	uint8_t limit;		      /* elements carry a limit: 1 packets, 2 bytes */
	bool counted;		      /* filled by rules, elements count connections */
	unsigned tables;	      /* bit a table */
};
extern const struct nft_set_def nft_sets[SET_COUNT];

#define NFT_KEY_MAX   44
#define NFT_DATA_MAX  20
#define NFT_UDATA_MAX 240 /* kernel: 256 with our two bytes of header */

struct nft_elem {
	uint8_t table, set;
	uint8_t key[NFT_KEY_MAX], data[NFT_DATA_MAX];
	uint64_t rate; /* limit */
	uint32_t burst;
	uint8_t udata_len;
	uint8_t udata[NFT_UDATA_MAX];
};
struct nft_elems {
	struct nft_elem *e;
	size_t n, cap;
};
void nft_elems_done(struct nft_elems *l);
bool nft_elem_same(const struct nft_elem *a, const struct nft_elem *b);

/*
 * Caps on tracked connections come in classes, 1 and 1.5 times a power of two, for lack of a better
 * object: an element with a count of its own is removed by the kernel when the count is 0, so the
 * number must stand in the rule that makes it again; and nft(8) (1.0.6) aborts when it meets a
 * connlimit object.
 *
 * The kernel walks the whole list of a counter for a new connection, once a tick (some 0.4 us an
 * entry): with 65,536 in one list a tenant could burn a CPU with 250 new connections a second. So a
 * cap above 1,024 is split by a hash over addresses and ports into parts of at most NFT_CT_PART.
 * Never more than the cap are tracked; a few new connections are refused from about three quarters
 * of it on.
 */
#define NFT_CT_CLASSES 29
#define NFT_CT_PART    96
uint32_t nft_ct_cap(unsigned class);   /* connections */
uint32_t nft_ct_parts(unsigned class); /* a power of two */
unsigned nft_ct_class(uint32_t max);   /* the largest that is not above max */

/* The elements of a guest. 0 or -ENOMEM. Pure: of h, only tag and ct_default are read. */
int nft_elems_of(const struct net_host *h, unsigned id, const struct net_plan *p,
		 struct nft_elems *ret);
/* A plan as bytes and back; parent, guest_if and gateways are not kept. Pure. */
int nft_pack(const struct net_plan *p, uint8_t **ret, size_t *ret_len);
int nft_unpack(const uint8_t *b, size_t len, struct net_plan *ret); /* -EBADMSG */

/* A batch in the making. */
struct nft_batch {
	char *buf;
	size_t len, cap, last; /* offset of the last command */
	uint32_t seq;
	bool oom, dirty;
	uint64_t hash; /* over all commands */
};
void nft_batch_done(struct nft_batch *b);
/* gen: the generation the ruleset must still have (else -ERESTART); 0: any. */
void nft_batch_begin(struct nft_batch *b, uint32_t gen);
/* Room for one command (64 KiB). */
struct nlmsghdr *nft_cmd(struct nft_batch *b, uint16_t type, int family, uint16_t flags);
void nft_cmd_end(struct nft_batch *b, struct nlmsghdr *h);
/* 0 with nothing to do too. */
int nft_commit(struct net_host *h, struct nft_batch *b, struct vps_err *err);

int nft_family(enum nft_table t);
void nft_put_table(struct net_host *h, struct nft_batch *b, enum nft_table t, const void *udata,
		   size_t len);
void nft_del_table(struct net_host *h, struct nft_batch *b, enum nft_table t);
void nft_put_set(struct net_host *h, struct nft_batch *b, enum nft_table t, enum nft_set s);
void nft_add_elems(struct net_host *h, struct nft_batch *b, const struct nft_elem *e, size_t n);
void nft_del_elems(struct net_host *h, struct nft_batch *b, const struct nft_elem *e, size_t n);

/* All sets, chains and rules of a table. The number of rules is returned by ret_rules. */
void nft_build_inet(struct net_host *h, struct nft_batch *b, unsigned *ret_rules);
void nft_build_arp(struct net_host *h, struct nft_batch *b, unsigned *ret_rules);
void nft_build_bridge(struct net_host *h, struct nft_batch *b, unsigned *ret_rules);

/* State of a table in the kernel. */
enum nft_state {
	NFT_MISSING,
	NFT_GOOD,
	NFT_OTHER /* of another version or conf, or rules were touched */
};
int nft_table_state(struct net_host *h, enum nft_table t, enum nft_state *ret);
int nft_generation(struct net_host *h, uint32_t *ret);

/* Make sure that the tables for a mode are there and whole: made when missing, rebuilt from their
 * own records, in one transaction, when not ours of today. */
int nft_ensure(struct net_host *h, enum net_mode mode, struct vps_err *err);
/* Rebuild the tables of a mode with exactly these guests. */
struct nft_guest {
	unsigned id;
	struct net_plan plan;
};
struct nft_guests {
	struct nft_guest *g;
	size_t n, cap;
};
void nft_guests_done(struct nft_guests *l);
/* gen: as in nft_batch_begin. */
int nft_rebuild(struct net_host *h, bool bridge, const struct nft_guests *l, uint32_t gen,
		struct vps_err *err);

/* The record of a guest: 1 found, 0 none, -errno. Its plan's mode tells the table. */
int nft_record(struct net_host *h, unsigned id, struct net_plan *ret);
/* All records of a table, sorted by id. -ENOENT without a table. */
int nft_records(struct net_host *h, enum nft_table t, struct nft_guests *ret);
/* All elements of a set. -ENOENT. */
int nft_dump_set(struct net_host *h, enum nft_table t, enum nft_set s, struct nft_elems *ret);
/* Chains at the forward hook, of other tables, with policy drop: fn(family, table, chain). */
int nft_forward_drops(struct net_host *h,
		      void (*fn)(void *arg, int family, const char *table, const char *chain),
		      void *arg);

/* Replace a guest's elements by those of a plan (NULL: none), one transaction. */
int nft_guest_set(struct net_host *h, unsigned id, const struct net_plan *plan,
		  struct vps_err *err);

#endif
