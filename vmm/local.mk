noinst_LIBRARIES += libvmm.a libvmmapi.a
libvmmapi_a_SOURCES = vmm/api.c vmm/api.h

libvmm_a_SOURCES = \
	vmm/acpi.c vmm/acpi.h \
	vmm/api.h \
	vmm/balloon.c vmm/balloon.h \
	vmm/blk.c vmm/blk.h \
	vmm/ctl.c vmm/ctl.h \
	vmm/filter.c vmm/filter.h \
	vmm/kvm.c vmm/kvm.h \
	vmm/layout.h \
	vmm/loader.c vmm/loader.h \
	vmm/loop.c vmm/loop.h \
	vmm/machine.c vmm/machine.h \
	vmm/memory.c vmm/memory.h \
	vmm/net.c vmm/net.h \
	vmm/ports.c vmm/ports.h \
	vmm/precopy.c vmm/precopy.h \
	vmm/rate.h \
	vmm/rng.c vmm/rng.h \
	vmm/rounds.c vmm/rounds.h \
	vmm/serial.c vmm/serial.h \
	vmm/snapcpu.c vmm/snapcpu.h \
	vmm/snapshot.c vmm/snapshot.h \
	vmm/stopper.c vmm/stopper.h \
	vmm/vcpu.c \
	vmm/virtio_mmio.c vmm/virtio_mmio.h \
	vmm/virtqueue.c vmm/virtqueue.h \
	vmm/vm.c vmm/vm.h \
	vmm/vsock.c vmm/vsock.h \
	vmm/waker.c vmm/waker.h
libvmm_a_CFLAGS = $(AM_CFLAGS) -pthread

# Static: it runs in an empty root, and is executed by an fd.
pkglibexec_PROGRAMS += vps-vmm
vps_vmm_SOURCES = vmm/main.c
vps_vmm_CFLAGS = $(AM_CFLAGS) -pthread
vps_vmm_LDADD = libvmm.a libbase.a
if !SANITIZERS
vps_vmm_LDFLAGS = $(AM_LDFLAGS) -static-pie
endif
