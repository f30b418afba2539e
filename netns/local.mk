noinst_LIBRARIES += libnetns.a
libnetns_a_SOURCES = \
	netns/addr.c \
	netns/announce.c \
	netns/attach.c netns/attach.h \
	netns/audit.c \
	netns/check.c \
	netns/elems.c \
	netns/hold.c \
	netns/host.c netns/host.h \
	netns/lease.c netns/lease.h \
	netns/link.c netns/link.h \
	netns/netlink.c netns/netlink.h \
	netns/netns.h netns/priv.h \
	netns/nft.c netns/nft.h netns/nft_io.h \
	netns/nft_bridge.c \
	netns/nft_inet.c \
	netns/nft_table.c \
	netns/rate.c \
	netns/rb.c netns/rb.h \
	netns/tap.c \
	netns/text.c \
	netns/track.c \
	netns/update.c
