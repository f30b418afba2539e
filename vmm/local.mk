noinst_LIBRARIES += libvmm.a
libvmm_a_SOURCES = \
	vmm/acpi.c vmm/acpi.h \
	vmm/balloon.c vmm/balloon.h \
	vmm/blk.c vmm/blk.h \
	vmm/kvm.c vmm/kvm.h \
	vmm/layout.h \
	vmm/loader.c vmm/loader.h \
	vmm/loop.c vmm/loop.h \
	vmm/machine.c vmm/machine.h \
	vmm/memory.c vmm/memory.h \
	vmm/net.c vmm/net.h \
	vmm/rate.h \
	vmm/rng.c vmm/rng.h \
	vmm/serial.c vmm/serial.h \
	vmm/vcpu.c \
	vmm/virtio_mmio.c vmm/virtio_mmio.h \
	vmm/virtqueue.c vmm/virtqueue.h \
	vmm/vm.c vmm/vm.h \
	vmm/vsock.c vmm/vsock.h
libvmm_a_CFLAGS = $(AM_CFLAGS) -pthread

# Installed when a driver in runtime/ starts it.
noinst_PROGRAMS += vps-vmm
vps_vmm_SOURCES = vmm/main.c
vps_vmm_CFLAGS = $(AM_CFLAGS) -pthread
vps_vmm_LDADD = libvmm.a libbase.a $(YAJL_LIBS) $(CRYPTO_LIBS)
