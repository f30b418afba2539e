pkglibexec_PROGRAMS += vps-init
vps_init_SOURCES = runtime/guest/raw.h runtime/guest/vps-init.c
# No C library, no hardening or sanitizer runtime: nothing of them is there.
vps_init_CFLAGS = -std=gnu11 $(WARN_CFLAGS) -Os -ffreestanding -fno-stack-protector \
	-fno-asynchronous-unwind-tables -fno-builtin -fno-pic -U_FORTIFY_SOURCE
vps_init_LDFLAGS = -static -no-pie -nostdlib -Wl,--build-id=none -Wl,-z,noexecstack \
	-Wl,-z,norelro

# The guest's side of a VM: process 1 of its initramfs, its agent. Static: nothing else is there.
pkglibexec_PROGRAMS += vps-guest
vps_guest_SOURCES = \
	runtime/guest/agent.c \
	runtime/guest/guest.h \
	runtime/guest/init.c \
	runtime/guest/job.c \
	runtime/guest/link.c \
	runtime/guest/main.c \
	runtime/guest/root.c \
	runtime/guest/session.c \
	runtime/guest/stat.c
vps_guest_LDADD = libruntime.a libnetns.a libbase.a
if !SANITIZERS
vps_guest_LDFLAGS = $(AM_LDFLAGS) -static
endif

# What host and guest share, and the host's half.
libruntime_a_SOURCES += \
	runtime/guest/agent.h \
	runtime/guest/client.c \
	runtime/guest/wire.c
