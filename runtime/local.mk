noinst_LIBRARIES += libruntime.a
libruntime_a_SOURCES = runtime/vps.h

# core: definition, store, life cycle
libruntime_a_SOURCES += \
	runtime/claim.c \
	runtime/conf.c \
	runtime/copy.c \
	runtime/create.c \
	runtime/delete.c \
	runtime/driver.h \
	runtime/inside.h \
	runtime/host.c \
	runtime/info.c \
	runtime/initplan.c runtime/initplan.h \
	runtime/internal.h \
	runtime/lease.c \
	runtime/lifecycle.c \
	runtime/plan.c \
	runtime/procs.c runtime/procs.h \
	runtime/root.c \
	runtime/runstate.c \
	runtime/set.c \
	runtime/spec.c runtime/spec.h \
	runtime/spec_check.c \
	runtime/spec_fields.h \
	runtime/spec_json.c \
	runtime/spec_lists.c \
	runtime/spec_options.c \
	runtime/spec_parse.c \
	runtime/spec_set.h \
	runtime/start.c \
	runtime/stats.c \
	runtime/stop.c \
	runtime/store.c \
	runtime/switch.c \
	runtime/tar.h runtime/tar_impl.h runtime/tar_pack.c runtime/tar_path.c \
	runtime/tar_sync.c runtime/tar_unpack.c \
	runtime/vps_exec.c

# streams, snapshots, clones, backups
libruntime_a_SOURCES += \
	runtime/migrate/backup.c runtime/migrate/backup.h \
	runtime/migrate/backup_read.c \
	runtime/migrate/clone.c \
	runtime/migrate/cron.c \
	runtime/migrate/feeder.c runtime/migrate/feeder.h \
	runtime/migrate/migrate.h \
	runtime/migrate/restore.c \
	runtime/migrate/restore_refs.c \
	runtime/migrate/snapmem.c \
	runtime/migrate/snapshot.c \
	runtime/migrate/snapstore.c \
	runtime/migrate/still.c \
	runtime/migrate/apply.c runtime/migrate/apply.h \
	runtime/migrate/arrive.c runtime/migrate/arrive.h \
	runtime/migrate/fault.c runtime/migrate/fault.h \
	runtime/migrate/handover.c runtime/migrate/handover.h \
	runtime/migrate/hook.c runtime/migrate/hook.h \
	runtime/migrate/imagepipe.c runtime/migrate/imagepipe.h \
	runtime/migrate/leftovers.c \
	runtime/migrate/link.c runtime/migrate/link.h \
	runtime/migrate/migrate.c runtime/migrate/migrate_impl.h runtime/migrate/migrate_memory.c runtime/migrate/migrate_offer.c \
	runtime/migrate/precopy.c runtime/migrate/precopy.h \
	runtime/migrate/offer.c runtime/migrate/offer.h \
	runtime/migrate/receive.c \
	runtime/migrate/scan.c runtime/migrate/scan.h runtime/migrate/scan_impl.h \
	runtime/migrate/scan_index.c \
	runtime/migrate/wire.c runtime/migrate/wire.h \
	runtime/migrate/record.c runtime/migrate/record.h \
	runtime/migrate/stream.c runtime/migrate/stream.h \
	runtime/migrate/stream_file.c

# core: the monitor and what commands say to it, events, guest files, lxcfs
libruntime_a_SOURCES += \
	runtime/console.c \
	runtime/ctl.c runtime/ctl.h \
	runtime/events.c runtime/events.h \
	runtime/guestcfg.c runtime/guestcfg.h \
	runtime/guestconf.c runtime/guestconf.h runtime/guestconf_impl.h \
	runtime/guestconf_apply.c \
	runtime/guestconf_net.c \
	runtime/guestconf_probe.c \
	runtime/hostcheck.c runtime/hostcheck.h \
	runtime/hostfacts.c \
	runtime/keeper.c runtime/keeper.h \
	runtime/lxcfs.c runtime/lxcfs_pid.c runtime/lxcfs.h runtime/lxcfs_impl.h \
	runtime/monitor.c runtime/monitor.h \
	runtime/monitor_args.c runtime/monitor_args.h \
	runtime/monitor_files.c runtime/monitor_files.h \
	runtime/restart.c runtime/restart.h \
	runtime/startall.c \
	runtime/wait.c

pkglibexec_PROGRAMS += vps-monitor
vps_monitor_SOURCES = \
	runtime/monitor/clients.c \
	runtime/monitor/console.c \
	runtime/monitor/end.c \
	runtime/monitor/impl.h \
	runtime/monitor/keeper_main.c \
	runtime/monitor/main.c \
	runtime/monitor/sock.c \
	runtime/monitor/watch.c
vps_monitor_CPPFLAGS = $(AM_CPPFLAGS) -DBINDIR='"$(bindir)"'
vps_monitor_LDADD = libruntime.a libbase.a
# Static: one a VPS runs for months, and a dynamic loader's relocated pages are private to each.
if !SANITIZERS
vps_monitor_LDFLAGS = $(AM_LDFLAGS) -static-pie
endif

# suspend, and what checkpoints are
libruntime_a_SOURCES += \
	runtime/migrate/check.c \
	runtime/migrate/obstacles.c runtime/migrate/obstacles.h \
	runtime/migrate/checkpoint.c runtime/migrate/checkpoint.h \
	runtime/migrate/manifest.c runtime/migrate/manifest.h \
	runtime/migrate/suspend.c runtime/migrate/suspend.h \
	runtime/migrate/take.c

include runtime/container/local.mk
include runtime/microvm/local.mk
include runtime/guest/local.mk
