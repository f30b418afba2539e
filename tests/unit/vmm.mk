unit_programs += \
	tests/unit/vmm_boot_test \
	tests/unit/vmm_devices_test \
	tests/unit/vmm_queue_test \
	tests/unit/vmm_vsock_test

vmm_libs = libvmm.a $(base_libs) $(UNIT_LIBS)
vmm_cflags = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -pthread

tests_unit_vmm_devices_test_SOURCES = tests/unit/vmm_devices.c tests/unit/vmm_driver.h
tests_unit_vmm_devices_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_devices_test_LDADD = $(vmm_libs)

tests_unit_vmm_queue_test_SOURCES = tests/unit/vmm_queue.c tests/unit/vmm_driver.h
tests_unit_vmm_queue_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_queue_test_LDADD = $(vmm_libs)

tests_unit_vmm_vsock_test_SOURCES = tests/unit/vmm_vsock.c tests/unit/vmm_driver.h
tests_unit_vmm_vsock_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_vsock_test_LDADD = $(vmm_libs)

tests_unit_vmm_boot_test_SOURCES = tests/unit/vmm_boot.c
tests_unit_vmm_boot_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_boot_test_LDADD = $(vmm_libs)
