# SPDX-License-Identifier: GPL-2.0-or-later
EXTRA_DIST += docs/design.md docs/security.md
dist_man_MANS += \
	docs/man/vps-backup.1 \
	docs/man/vps-create.1 \
	docs/man/vps-exec.1 \
	docs/man/vps-host.1 \
	docs/man/vps-image.1 \
	docs/man/vps-list.1 \
	docs/man/vps-migrate.1 \
	docs/man/vps-monitor.8 \
	docs/man/vps-receive.1 \
	docs/man/vps-spec.5 \
	docs/man/vps-snapshot.1 \
	docs/man/vps-start.1 \
	docs/man/vps-suspend.1 \
	docs/man/vps.1 \
	docs/man/vps.conf.5
