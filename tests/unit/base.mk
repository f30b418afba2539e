unit_programs += \
	tests/unit/base_err_test \
	tests/unit/base_fs_test \
	tests/unit/base_inroot_test \
	tests/unit/base_json_test \
	tests/unit/base_lock_test \
	tests/unit/base_proc_test \
	tests/unit/base_str_test \
	tests/unit/base_sys_test

tests_unit_base_err_test_SOURCES = tests/unit/base_err.c tests/unit/base_util.h
tests_unit_base_err_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_base_err_test_LDADD = $(base_libs) $(UNIT_LIBS)

tests_unit_base_fs_test_SOURCES = tests/unit/base_fs.c tests/unit/base_util.h
tests_unit_base_fs_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_base_fs_test_LDADD = $(base_libs) $(UNIT_LIBS)

tests_unit_base_inroot_test_SOURCES = tests/unit/base_inroot.c tests/unit/base_util.h
tests_unit_base_inroot_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_base_inroot_test_LDADD = $(base_libs) $(UNIT_LIBS)

tests_unit_base_json_test_SOURCES = tests/unit/base_json.c tests/unit/base_util.h
tests_unit_base_json_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_base_json_test_LDADD = $(base_libs) $(UNIT_LIBS)

tests_unit_base_lock_test_SOURCES = tests/unit/base_lock.c tests/unit/base_util.h
tests_unit_base_lock_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_base_lock_test_LDADD = $(base_libs) $(UNIT_LIBS)

tests_unit_base_proc_test_SOURCES = tests/unit/base_proc.c tests/unit/base_util.h
tests_unit_base_proc_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_base_proc_test_LDADD = $(base_libs) $(UNIT_LIBS)

tests_unit_base_str_test_SOURCES = tests/unit/base_str.c tests/unit/base_util.h
tests_unit_base_str_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_base_str_test_LDADD = $(base_libs) $(UNIT_LIBS)

tests_unit_base_sys_test_SOURCES = tests/unit/base_sys.c tests/unit/base_util.h
tests_unit_base_sys_test_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_base_sys_test_LDADD = $(base_libs) $(UNIT_LIBS)
