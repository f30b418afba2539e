
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
