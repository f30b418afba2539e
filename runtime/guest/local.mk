pkglibexec_PROGRAMS += vps-init
vps_init_SOURCES = runtime/guest/raw.h runtime/guest/vps-init.c
# No C library, no hardening or sanitizer runtime: nothing of them is there.
vps_init_CFLAGS = -std=gnu11 $(WARN_CFLAGS) -Os -ffreestanding -fno-stack-protector \
	-fno-asynchronous-unwind-tables -fno-builtin -fno-pic -U_FORTIFY_SOURCE
vps_init_LDFLAGS = -static -no-pie -nostdlib -Wl,--build-id=none -Wl,-z,noexecstack \
	-Wl,-z,norelro

libruntime_a_SOURCES += runtime/guest/agent.h runtime/guest/wire.c
