noinst_LIBRARIES += libcgroups.a
libcgroups_a_SOURCES = cgroups/cgroups.h
