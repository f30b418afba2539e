noinst_LIBRARIES += libruntime.a
libruntime_a_SOURCES = runtime/vps.h

# core: definition, store, life cycle
libruntime_a_SOURCES += \
	runtime/claim.c \
	runtime/conf.c \
	runtime/driver.h \
	runtime/host.c \
	runtime/info.c \
	runtime/internal.h \
	runtime/plan.c \
	runtime/runstate.c \
	runtime/spec.c runtime/spec.h \
	runtime/spec_check.c \
	runtime/spec_fields.h \
	runtime/spec_json.c \
	runtime/spec_lists.c \
	runtime/spec_options.c \
	runtime/spec_parse.c \
	runtime/spec_set.h
