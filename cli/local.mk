bin_PROGRAMS += vps
vps_SOURCES = \
	cli/cli.h cli/verbs.h \
	cli/completion.c \
	cli/cp.c \
	cli/create.c \
	cli/exec.c \
	cli/help.c \
	cli/host.c \
	cli/image.c \
	cli/inspect.c \
	cli/list.c \
	cli/logs.c \
	cli/main.c \
	cli/parse.c \
	cli/progress.c \
	cli/run.c \
	cli/set.c \
	cli/start.c \
	cli/stats.c \
	cli/stop.c \
	cli/table.c \
	cli/term.c \
	cli/verbs.c
vps_LDADD = libruntime.a libimages.a libnetns.a libcgroups.a libbase.a \
	$(SECCOMP_LIBS) $(CAP_LIBS) $(MNL_LIBS) $(NFTNL_LIBS) $(CURL_LIBS) $(ARCHIVE_LIBS) \
	$(YAJL_LIBS) $(CRYPTO_LIBS)
