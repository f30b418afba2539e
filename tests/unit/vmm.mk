unit_programs += \
	tests/unit/vmm_api_test \
	tests/unit/vmm_boot_test \
	tests/unit/vmm_ctl_test \
	tests/unit/vmm_devices_test \
	tests/unit/vmm_filter_test \
	tests/unit/vmm_kvm_test \
	tests/unit/vmm_queue_test \
	tests/unit/vmm_rounds_test \
	tests/unit/vmm_vsock_test

vmm_libs = libvmm.a $(base_libs) $(UNIT_LIBS)
vmm_cflags = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -pthread

tests_unit_vmm_api_test_SOURCES = tests/unit/vmm_api.c
tests_unit_vmm_api_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_api_test_LDADD = libvmmapi.a $(vmm_libs)

tests_unit_vmm_ctl_test_SOURCES = tests/unit/vmm_ctl.c
tests_unit_vmm_ctl_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_ctl_test_LDADD = libvmmapi.a $(vmm_libs)

tests_unit_vmm_filter_test_SOURCES = tests/unit/vmm_filter.c
tests_unit_vmm_filter_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_filter_test_LDADD = $(vmm_libs)

tests_unit_vmm_devices_test_SOURCES = tests/unit/vmm_devices.c tests/unit/vmm_driver.h
tests_unit_vmm_devices_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_devices_test_LDADD = $(vmm_libs)

tests_unit_vmm_queue_test_SOURCES = tests/unit/vmm_queue.c tests/unit/vmm_driver.h
tests_unit_vmm_queue_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_queue_test_LDADD = $(vmm_libs)

tests_unit_vmm_rounds_test_SOURCES = tests/unit/vmm_rounds.c
tests_unit_vmm_rounds_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_rounds_test_LDADD = $(vmm_libs)

tests_unit_vmm_vsock_test_SOURCES = tests/unit/vmm_vsock.c tests/unit/vmm_driver.h
tests_unit_vmm_vsock_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_vsock_test_LDADD = $(vmm_libs)

tests_unit_vmm_boot_test_SOURCES = tests/unit/vmm_boot.c
tests_unit_vmm_boot_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_boot_test_LDADD = $(vmm_libs)

# What runs inside the machines of vmm_kvm: no C library, at the address of a kernel.
check_PROGRAMS += tests/unit/vmm_guest
tests_unit_vmm_guest_SOURCES = tests/unit/vmm_guest.c
tests_unit_vmm_guest_CFLAGS = -std=gnu11 $(WARN_CFLAGS) -O2 -ffreestanding -fno-pie -fno-stack-protector \
	-fcf-protection=none -mno-red-zone -mgeneral-regs-only -fno-sanitize=all
tests_unit_vmm_guest_LDFLAGS = -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noseparate-code \
	-Wl,-Ttext-segment=0x1000000

tests_unit_vmm_kvm_test_SOURCES = tests/unit/vmm_kvm.c
tests_unit_vmm_kvm_test_CFLAGS = $(vmm_cflags)
tests_unit_vmm_kvm_test_LDADD = $(vmm_libs)
