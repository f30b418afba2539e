
# the monitor
unit_programs += tests/unit/runtime_restart_test tests/unit/runtime_monitor_test tests/unit/runtime_adopt_test

tests_unit_runtime_restart_test_SOURCES = tests/unit/runtime_restart.c tests/unit/base_util.h
tests_unit_runtime_restart_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_restart_test_LDADD = libruntime.a $(base_libs) $(UNIT_LIBS)

tests_unit_runtime_monitor_test_SOURCES = tests/unit/runtime_monitor.c \
	tests/unit/runtime_monitor_util.c tests/unit/runtime_monitor_util.h tests/unit/base_util.h
tests_unit_runtime_monitor_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_monitor_test_LDADD = libruntime.a $(base_libs) $(UNIT_LIBS) -lutil

tests_unit_runtime_adopt_test_SOURCES = tests/unit/runtime_adopt.c \
	tests/unit/runtime_monitor_util.c tests/unit/runtime_monitor_util.h tests/unit/base_util.h
tests_unit_runtime_adopt_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_adopt_test_LDADD = libruntime.a $(base_libs) $(UNIT_LIBS) -lutil

# the core
runtime_libs = libruntime.a libimages.a libnetns.a libcgroups.a libvmmapi.a $(ARCHIVE_LIBS) \
	$(MNL_LIBS) $(NFTNL_LIBS) $(SECCOMP_LIBS) $(PROTOBUF_C_LIBS) $(CAP_LIBS) $(ZSTD_LIBS) $(base_libs) $(UNIT_LIBS)
unit_programs += tests/unit/runtime_spec_test tests/unit/runtime_conf_test \
	tests/unit/runtime_plan_test tests/unit/runtime_store_test tests/unit/runtime_tar_test

tests_unit_runtime_spec_test_SOURCES = tests/unit/runtime_spec.c
tests_unit_runtime_spec_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_spec_test_LDADD = $(runtime_libs)
tests_unit_runtime_conf_test_SOURCES = tests/unit/runtime_conf.c tests/unit/base_util.h
tests_unit_runtime_conf_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_conf_test_LDADD = $(runtime_libs)
tests_unit_runtime_plan_test_SOURCES = tests/unit/runtime_plan.c
tests_unit_runtime_plan_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_plan_test_LDADD = $(runtime_libs)
tests_unit_runtime_store_test_SOURCES = tests/unit/runtime_store.c tests/unit/base_util.h
tests_unit_runtime_store_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_store_test_LDADD = $(runtime_libs)
tests_unit_runtime_tar_test_SOURCES = tests/unit/runtime_tar.c tests/unit/base_util.h
tests_unit_runtime_tar_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_tar_test_LDADD = $(runtime_libs)

# streams
unit_programs += tests/unit/runtime_stream_test
tests_unit_runtime_stream_test_SOURCES = tests/unit/runtime_stream.c tests/unit/base_util.h
tests_unit_runtime_stream_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_stream_test_LDADD = $(runtime_libs)

# snapshots and backups
unit_programs += tests/unit/runtime_backup_test
tests_unit_runtime_backup_test_SOURCES = tests/unit/runtime_backup.c tests/unit/base_util.h
tests_unit_runtime_backup_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_backup_test_LDADD = $(runtime_libs)

# guest files
unit_programs += tests/unit/runtime_guestconf_test
tests_unit_runtime_guestconf_test_SOURCES = tests/unit/runtime_guestconf.c tests/unit/base_util.h
tests_unit_runtime_guestconf_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_guestconf_test_LDADD = $(runtime_libs)

# lxcfs
unit_programs += tests/unit/runtime_lxcfs_test
tests_unit_runtime_lxcfs_test_SOURCES = tests/unit/runtime_lxcfs.c tests/unit/base_util.h
tests_unit_runtime_lxcfs_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_lxcfs_test_LDADD = $(runtime_libs)

# the container driver
unit_programs += tests/unit/runtime_mounts_plan_test tests/unit/runtime_user_test \
	tests/unit/runtime_seccomp_test tests/unit/runtime_caps_test
EXTRA_DIST += tests/unit/runtime_seccomp.golden
tests_unit_runtime_mounts_plan_test_SOURCES = tests/unit/runtime_mounts_plan.c tests/unit/base_util.h
tests_unit_runtime_mounts_plan_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_mounts_plan_test_LDADD = $(runtime_libs)
tests_unit_runtime_user_test_SOURCES = tests/unit/runtime_user.c tests/unit/base_util.h
tests_unit_runtime_user_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_user_test_LDADD = $(runtime_libs)
tests_unit_runtime_seccomp_test_SOURCES = tests/unit/runtime_seccomp.c tests/unit/base_util.h
tests_unit_runtime_seccomp_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_seccomp_test_LDADD = $(runtime_libs)
tests_unit_runtime_caps_test_SOURCES = tests/unit/runtime_caps.c tests/unit/base_util.h
tests_unit_runtime_caps_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_caps_test_LDADD = $(runtime_libs)
unit_programs += tests/unit/runtime_container_test
tests_unit_runtime_container_test_SOURCES = tests/unit/runtime_container.c tests/unit/base_util.h
tests_unit_runtime_container_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_container_test_LDADD = $(runtime_libs)

# the machine driver
unit_programs += tests/unit/runtime_microvm_test
tests_unit_runtime_microvm_test_SOURCES = tests/unit/runtime_microvm.c
tests_unit_runtime_microvm_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_microvm_test_LDADD = $(runtime_libs)
# a machine's guest
unit_programs += tests/unit/runtime_guest_test tests/unit/runtime_agent_test
tests_unit_runtime_guest_test_SOURCES = tests/unit/runtime_guest.c tests/unit/base_util.h
tests_unit_runtime_guest_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_guest_test_LDADD = $(runtime_libs)
tests_unit_runtime_agent_test_SOURCES = tests/unit/runtime_agent.c tests/unit/base_util.h \
	runtime/guest/job.c runtime/guest/link.c runtime/guest/session.c runtime/guest/stat.c
tests_unit_runtime_agent_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_agent_test_LDADD = $(runtime_libs)

# checkpoints
unit_programs += tests/unit/runtime_checkpoint_test
tests_unit_runtime_checkpoint_test_SOURCES = tests/unit/runtime_checkpoint.c tests/unit/base_util.h
tests_unit_runtime_checkpoint_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_checkpoint_test_LDADD = $(runtime_libs)

# the hand-over of a migration: every interleaving
unit_programs += tests/unit/runtime_handover_test
tests_unit_runtime_handover_test_SOURCES = tests/unit/runtime_handover.c
tests_unit_runtime_handover_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_handover_test_LDADD = libruntime.a $(base_libs) $(UNIT_LIBS)

# trees that move
unit_programs += tests/unit/runtime_precopy_test
tests_unit_runtime_precopy_test_SOURCES = tests/unit/runtime_precopy.c tests/unit/base_util.h
tests_unit_runtime_precopy_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_precopy_test_LDADD = libruntime.a $(base_libs) $(UNIT_LIBS)

unit_programs += tests/unit/runtime_tree_test
tests_unit_runtime_tree_test_SOURCES = tests/unit/runtime_tree.c tests/unit/base_util.h
tests_unit_runtime_tree_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_runtime_tree_test_LDADD = libruntime.a $(ZSTD_LIBS) $(base_libs) $(UNIT_LIBS)
