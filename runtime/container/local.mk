libruntime_a_SOURCES += \
	runtime/container/caps.c \
	runtime/container/checkpoint.c \
	runtime/container/container.h \
	runtime/container/criu.c runtime/container/criu.h \
	runtime/container/dev.c \
	runtime/container/driver.c \
	runtime/container/exec.c \
	runtime/container/idimage.c \
	runtime/container/inside.c \
	runtime/container/join.c \
	runtime/container/launch.c \
	runtime/container/mounts.c \
	runtime/container/mounts_plan.c \
	runtime/container/outside.c \
	runtime/container/payload.c \
	runtime/container/payload_rights.c \
	runtime/container/restore.c runtime/container/restore.h \
	runtime/container/rootfs.c \
	runtime/container/seccomp.c runtime/container/seccomp.h \
	runtime/container/seccomp_cache.c \
	runtime/container/user.c \
	runtime/container/userns.c \
	runtime/container/watches.c

# The built-in seccomp profile as a C string.

dist_pkgdata_DATA = runtime/container/seccomp-default.json
BUILT_SOURCES += runtime/container/seccomp-default.inc
CLEANFILES += runtime/container/seccomp-default.inc
runtime/container/seccomp-default.inc: runtime/container/seccomp-default.json
	$(AM_V_GEN)$(MKDIR_P) $(@D) && \
	sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' \
		$(srcdir)/runtime/container/seccomp-default.json > $@.tmp && mv $@.tmp $@
runtime/container/seccomp_cache.o: runtime/container/seccomp-default.inc

# CRIU's RPC, from the numbers of its fields.

EXTRA_DIST += runtime/container/criu.proto
BUILT_SOURCES += runtime/container/criu.pb-c.h
CLEANFILES += runtime/container/criu.pb-c.c runtime/container/criu.pb-c.h
nodist_libruntime_a_SOURCES = runtime/container/criu.pb-c.c
runtime/container/criu.pb-c.h: runtime/container/criu.proto
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(PROTOC_C) --proto_path=$(srcdir) --c_out=. $(srcdir)/runtime/container/criu.proto
runtime/container/criu.pb-c.c: runtime/container/criu.pb-c.h
runtime/container/criu.o: runtime/container/criu.pb-c.h
