libruntime_a_SOURCES += \
	runtime/container/caps.c \
	runtime/container/container.h \
	runtime/container/dev.c \
	runtime/container/driver.c \
	runtime/container/exec.c \
	runtime/container/inside.c \
	runtime/container/join.c \
	runtime/container/launch.c \
	runtime/container/mounts.c \
	runtime/container/mounts_plan.c \
	runtime/container/outside.c \
	runtime/container/payload.c \
	runtime/container/rootfs.c \
	runtime/container/seccomp.c \
	runtime/container/user.c \
	runtime/container/userns.c
