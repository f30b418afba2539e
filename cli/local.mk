# Two programs of the same sources: `vps` without libcurl, libarchive and libzstd (see cli/verbs.c), and libexec's
# vps-image with them.
cli_sources = \
	cli/cli.h cli/verbs.h \
	cli/completion.c \
	cli/cp.c \
	cli/create.c \
	cli/exec.c \
	cli/help.c \
	cli/host.c \
	cli/image_opts.c \
	cli/inspect.c \
	cli/list.c \
	cli/logs.c \
	cli/main.c \
	cli/parse.c \
	cli/progress.c \
	cli/run.c \
	cli/set.c \
	cli/snapshot.c \
	cli/start.c \
	cli/stats.c \
	cli/stop.c \
	cli/suspend.c \
	cli/table.c \
	cli/term.c \
	cli/verbs.c
vps_libs = libruntime.a libimages.a libnetns.a libcgroups.a libvmmapi.a libbase.a \
	$(SECCOMP_LIBS) $(PROTOBUF_C_LIBS) $(CAP_LIBS) $(MNL_LIBS) $(NFTNL_LIBS) $(YAJL_LIBS) $(CRYPTO_LIBS)

bin_PROGRAMS += vps
vps_SOURCES = $(cli_sources) cli/light.c
vps_CPPFLAGS = $(AM_CPPFLAGS) -DVPS_LIGHT
vps_LDADD = $(vps_libs)

pkglibexec_PROGRAMS += vps-image
vps_image_SOURCES = $(cli_sources) cli/backup.c cli/clone.c cli/image.c cli/migrate.c cli/receive.c
# libcurl is loaded when it is needed: images/registry_http.c
vps_image_LDADD = $(vps_libs) $(ARCHIVE_LIBS) $(ZSTD_LIBS)
