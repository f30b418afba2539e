unit_programs += \
	tests/unit/cgroups_fake_test \
	tests/unit/cgroups_pure_test \
	tests/unit/cgroups_real_test

tests_unit_cgroups_pure_test_SOURCES = tests/unit/cgroups_pure.c
tests_unit_cgroups_pure_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_cgroups_pure_test_LDADD = libcgroups.a $(base_libs) $(UNIT_LIBS)

tests_unit_cgroups_fake_test_SOURCES = tests/unit/cgroups_fake.c
tests_unit_cgroups_fake_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_cgroups_fake_test_LDADD = libcgroups.a $(base_libs) $(UNIT_LIBS)

# Makes real groups; skipped (77), with the reason, when it may not.
tests_unit_cgroups_real_test_SOURCES = \
	tests/unit/cgroups_real.c \
	tests/unit/cgroups_real.h \
	tests/unit/cgroups_real_devices.c \
	tests/unit/cgroups_real_limits.c
tests_unit_cgroups_real_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_cgroups_real_test_LDADD = libcgroups.a $(base_libs) $(UNIT_LIBS)
