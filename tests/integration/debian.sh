#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# needs: root net debian
# Stock Debian 12 with systemd: boots to `running`, its services work, it shuts down in order.
. "$(dirname "$0")/../lib.sh"
debian_image
ssh-keygen -q -t ed25519 -N '' -f "$work/key" </dev/null
printf '#!/bin/sh\necho "$(id -u) $(hostname)" >>/root/user-data-ran\n' >"$work/user-data"
vps launch deb --image debian:12 --memory 512M --disk 2G --ip auto --ssh-key "$work/key.pub" --hostname deb.example \
	--user-data "$work/user-data" --dns 192.0.2.53 --dns-search example.org --wait >/dev/null
addr=$(vps inspect deb | jq -r '.[0].addresses[0]' | cut -d/ -f1)

test_systemd_reaches_running() {
	expect "$(vps exec deb -- systemctl is-system-running --wait || vps exec deb -- systemctl --failed --no-legend)" running
	expect "$(vps status deb)" '*running ready*'
}

test_services_work() {
	vps exec deb -- systemctl is-active systemd-journald systemd-logind cron ssh nginx
	vps exec deb -- journalctl -b --no-pager -n 5 | found .
	vps exec deb -- systemd-detect-virt --container
	expect "$(vps exec deb -- systemctl show -p ControlGroup cron)" 'ControlGroup=/system.slice/cron.service'
}

test_nginx_answers_on_its_address() {
	curl -sf --max-time 10 "http://$addr/" | found -i nginx
}

test_ssh_with_the_key_of_the_operator() {
	local out
	out=$(ssh -i "$work/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
		-o ConnectTimeout=10 "root@$addr" hostname </dev/null)
	expect "$out" 'deb*'
}

test_host_name_and_network_files() {
	expect "$(vps exec deb hostname)" deb.example
	vps exec deb -- ip -4 addr show eth0 | found "$addr"
	vps exec deb -- ip route | found default
	expect "$(vps exec deb -- systemctl is-active networking || true)" active
	vps exec deb -- ip -4 addr show eth0 | found "$addr"
}

test_the_user_data_script_ran_once_and_the_resolver_is_set() {
	wait_until 20 vps exec deb test -s /root/user-data-ran
	vps exec deb systemctl restart vps-user-data.service 2>/dev/null || true
	expect "$(vps exec deb cat /root/user-data-ran)" '0 deb.example'
	expect "$(vps exec deb grep -v '^#' /etc/resolv.conf)" $'search example.org\nnameserver 192.0.2.53'
	expect "$(vps exec deb getent hosts deb.example)" '127.0.1.1*deb.example deb'
	# where nothing can run it, that is said
	echo '#cloud-config' >"$work/cloud"
	vps create ci --image debian:12 --user-data "$work/cloud"
	expect_exit 2 vps start ci
	expect "$(cat "$work/.err")" '*no cloud-init*'
	vps delete ci
}

test_the_services_own_cgroups_and_limits() {
	vps exec deb -- systemd-run --wait -q -p TasksMax=5 /bin/true || vps exec deb -- systemd-run --wait -q /bin/true
	expect_fail vps exec deb -- sh -c 'echo max >/sys/fs/cgroup/../pids.max'
	vps exec deb -- sh -c 'mkdir /sys/fs/cgroup/mine && rmdir /sys/fs/cgroup/mine'
}

test_private_dev_and_readonly_sys() {
	expect "$(vps exec deb -- stat -c %t:%T /dev/null)" 1:3
	expect_fail vps exec deb -- sh -c 'echo 1 >/sys/kernel/mm/ksm/run'
	expect_fail vps exec deb -- sh -c 'mknod /tmp/sda b 8 0'
	vps exec deb -- chown 1000 /dev/null
	expect "$(stat -c %u:%a /dev/null)" 0:666
	vps exec deb -- chown 0 /dev/null
}

test_reboot_inside_restarts_it() {
	local a
	a=$(vps inspect deb | jq '.[0].pid')
	vps exec -d deb -- systemctl reboot
	wait_until 60 sh -c "[ \"\$(vps inspect deb | jq '.[0].pid')\" != $a ] && vps status deb | grep -q 'running ready'"
}

test_stop_is_a_clean_shutdown() {
	vps exec deb -- sh -c 'journalctl --sync; true'
	local t0=$SECONDS
	vps stop deb
	[ $((SECONDS - t0)) -lt 60 ]
	expect "$(vps status deb)" '*stopped*'
	vps logs deb | found -i 'reached target.*\(poweroff\|shutdown\|power-off\|off\)'
	vps start --wait deb
	expect "$(vps exec deb -- systemctl is-system-running --wait)" running
}

test_stop_is_heard_by_an_init_that_has_just_begun() {
	vps stop deb
	vps start deb
	vps stop deb
	expect "$(vps inspect deb | jq '.[0].exit_code')" 0
	vps start --wait deb
}

test_poweroff_inside_stops_it() {
	vps exec -d deb -- systemctl poweroff
	vps wait deb -t 60s
	expect "$(vps status deb)" '*stopped*'
	vps start --wait deb
}

test_a_second_one_has_its_own_identity() {
	vps launch deb2 --image debian:12 --memory 512M --disk 2G --ip auto --wait
	[ "$(vps exec deb cat /etc/machine-id)" != "$(vps exec deb2 cat /etc/machine-id)" ]
	[ "$(vps exec deb cat /etc/ssh/ssh_host_ed25519_key.pub)" != "$(vps exec deb2 cat /etc/ssh/ssh_host_ed25519_key.pub)" ]
	vps delete -f deb2
}

test_container_tools_inside_with_nesting() {
	vps launch nest --image debian:12 --memory 512M --disk 2G --feature nesting --wait
	expect "$(vps exec nest -- unshare -Urmpf --mount-proc sh -c 'id -u; ls /proc | grep -c "^[0-9]*$"' | tr '\n' ' ')" '0 [1-9] '
	vps delete -f nest
}

run_tests
