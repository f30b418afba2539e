noinst_LIBRARIES += libnetns.a
libnetns_a_SOURCES = netns/netns.h
