unit_programs += \
	tests/unit/netns_audit_test \
	tests/unit/netns_lease_test \
	tests/unit/netns_limits_test \
	tests/unit/netns_pure_test \
	tests/unit/netns_routed_test \
	tests/unit/netns_scale_test \
	tests/unit/netns_spoof_test \
	tests/unit/netns_tap_test

netns_lab = tests/unit/netns_lab.c tests/unit/netns_lab.h
netns_libs = libnetns.a $(MNL_LIBS) $(NFTNL_LIBS) $(base_libs) $(UNIT_LIBS)

tests_unit_netns_audit_test_SOURCES = tests/unit/netns_audit.c $(netns_lab)
tests_unit_netns_audit_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_netns_audit_test_LDADD = $(netns_libs)

tests_unit_netns_lease_test_SOURCES = tests/unit/netns_lease.c
tests_unit_netns_lease_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_netns_lease_test_LDADD = $(netns_libs)

tests_unit_netns_limits_test_SOURCES = tests/unit/netns_limits.c $(netns_lab)
tests_unit_netns_limits_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_netns_limits_test_LDADD = $(netns_libs)

tests_unit_netns_pure_test_SOURCES = tests/unit/netns_pure.c
tests_unit_netns_pure_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_netns_pure_test_LDADD = $(netns_libs)

tests_unit_netns_routed_test_SOURCES = tests/unit/netns_routed.c $(netns_lab)
tests_unit_netns_routed_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_netns_routed_test_LDADD = $(netns_libs)

tests_unit_netns_scale_test_SOURCES = tests/unit/netns_scale.c $(netns_lab)
tests_unit_netns_scale_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_netns_scale_test_LDADD = $(netns_libs)

tests_unit_netns_spoof_test_SOURCES = tests/unit/netns_spoof.c tests/unit/netns_frames.c \
	tests/unit/netns_frames.h $(netns_lab)
tests_unit_netns_spoof_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_netns_spoof_test_LDADD = $(netns_libs)

tests_unit_netns_tap_test_SOURCES = tests/unit/netns_tap.c $(netns_lab)
tests_unit_netns_tap_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_netns_tap_test_LDADD = $(netns_libs)
