noinst_LIBRARIES += libcgroups.a
libcgroups_a_SOURCES = \
	cgroups/apply.c \
	cgroups/cgroups.h \
	cgroups/check.c \
	cgroups/devbpf.c \
	cgroups/devices.c \
	cgroups/files.c \
	cgroups/freeze.c \
	cgroups/group.c \
	cgroups/host.c \
	cgroups/internal.h \
	cgroups/limits.c \
	cgroups/nstree.c \
	cgroups/oom.c \
	cgroups/pids.c \
	cgroups/protect.c \
	cgroups/setup.c \
	cgroups/stats.c \
	cgroups/tree.c
