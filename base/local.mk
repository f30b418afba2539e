noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = \
	base/digest.c base/digest.h \
	base/err.c base/err.h \
	base/fs.c base/fs.h \
	base/fs_copy.c \
	base/fs_tree.c \
	base/inroot.c base/inroot.h \
	base/json.c base/json.h \
	base/json_out.c \
	base/lock.c base/lock.h \
	base/mem.h \
	base/proc.c base/proc.h \
	base/proc_run.c \
	base/progress.h \
	base/str.c base/str.h \
	base/sys.c base/sys.h \
	base/units.c
libbase_a_CFLAGS = $(AM_CFLAGS) $(YAJL_CFLAGS) $(CRYPTO_CFLAGS)
