unit_programs += \
	tests/unit/vmm_queue_test

vmm_libs = libvmm.a $(base_libs) $(UNIT_LIBS)
vmm_cflags = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -pthread

tests_unit_vmm_queue_test_SOURCES = tests/unit/vmm_queue.c tests/unit/vmm_driver.h
tests_unit_vmm_queue_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_queue_test_LDADD = $(vmm_libs)
