#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots a stock kernel in vps-vmm and is the host's side of its devices: for vmm.sh.

vmm_boot.py DIR CPUS WORDS  - DIR has initrd, disk; WORDS are those of vmm_init.c; the console goes to
stdout, the exit status is that of vps-vmm.
vmm_boot.py initrd FILE INIT MODULE... - makes an initial RAM disk
"""
import fcntl, glob, lzma, os, signal, socket, struct, subprocess, sys, threading, time

def initrd(out, init, modules):
    release = os.uname().release
    data = bytearray()
    def entry(name, content=b'', mode=0o100755, rdev=(0, 0)):
        fields = (len(data) + 1, mode, 0, 0, 1, 0, len(content), 0, 0, *rdev, len(name) + 1, 0)
        data.extend(b'070701' + b''.join(b'%08x' % f for f in fields) + name.encode() + b'\0')
        data.extend(b'\0' * (-len(data) % 4) + content)
        data.extend(b'\0' * (-len(data) % 4))
    entry('dev', mode=0o040755)
    entry('dev/console', mode=0o020600, rdev=(5, 1))
    entry('init', open(init, 'rb').read())
    names = []
    for m in modules:
        found = glob.glob(f'/lib/modules/{release}/kernel/**/{m}.ko*', recursive=True)
        if not found:
            continue  # built in
        content = open(found[0], 'rb').read()
        if found[0].endswith('.xz'):
            content = lzma.decompress(content)
        entry(f'{m}.ko', content, 0o100644)
        names.append(f'/{m}.ko\n')
    entry('mods', ''.join(names).encode(), 0o100644)
    entry('TRAILER!!!')
    open(out, 'wb').write(data)

def tap():
    fd = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', b'vmmtap', 0x5002))  # TUNSETIFF: tap, no info, vnet header
    subprocess.run('ip addr add 10.88.0.1/24 dev vmmtap && ip link set vmmtap up', shell=True, check=True)
    return fd

def net_peer():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(2)
    for _ in range(10):
        s.sendto(b'x' * 1400, ('10.88.0.2', 7))
        try:
            print('host: packet of', len(s.recv(2000)), flush=True)
            return
        except TimeoutError:
            pass

def call(where, op, *args):
    """A request of vmm/api.h: the answer's result, what is behind it, fds"""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(where + '/vmm.sock')
    s.send(struct.pack('=II3Q', 1, op, *args, *[0] * (3 - len(args))))
    msg, fds, _, _ = socket.recv_fds(s, 65536, 1)
    _, result, why = struct.unpack('=Ii120s', msg[:128])
    if result:
        print('host: request', op, result, why.split(b'\0')[0].decode(), flush=True)
    return result, msg[128:], fds

def vsock_peer(where, port):
    print('host: nobody there:', call(where, 1, 53)[0], flush=True)
    a = socket.socket(fileno=call(where, 1, 52)[2][0])
    sent = os.urandom(1 << 20)
    threading.Thread(target=lambda: (a.sendall(sent), a.shutdown(socket.SHUT_WR))).start()
    got = bytearray()
    while part := a.recv(65536):
        got += part
    print('host: vsock', 'same' if got == sent else f'{len(got)} bytes', flush=True)
    print('host: port 7', port.recv(100).decode(), flush=True)

def rss(pid):
    for line in open(f'/proc/{pid}/smaps_rollup'):
        if line.startswith('Rss:'):
            return int(line.split()[1]) >> 10  # MiB

def beyond(pid):
    """KiB of vps-vmm beside the guest's memory: resident, private and dirty"""
    sums, guest = {'Rss:': 0, 'Private_Dirty:': 0}, False
    for line in open(f'/proc/{pid}/smaps'):
        word = line.split()
        if word[0] == 'Size:':
            guest = int(word[1]) == 256 << 10
        elif word[0] in sums and not guest:
            sums[word[0]] += int(word[1])
    return tuple(sums.values())

def stats(where):
    """memory, balloon target and actual, given back; then the guest's own numbers"""
    return struct.unpack('=13Q', call(where, 5)[1][:104])

def until(what, seconds=30):
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.2)

def memory_peer(where, pid, full):
    """What the guest gives back by itself, then what the balloon takes."""
    until(lambda: rss(pid) < full - 64)
    print('host: vps-vmm itself has %d KiB, private and dirty %d' % beyond(pid), flush=True)
    print('host: resident', full, 'MiB, after reports', rss(pid), flush=True)
    call(where, 4, 64 << 20)
    until(lambda: stats(where)[2] == 64 << 20)
    time.sleep(1)
    s = stats(where)
    print('host: balloon', s[2] >> 20, 'of', s[1] >> 20, 'MiB; resident', rss(pid), flush=True)
    time.sleep(0.5)
    s = stats(where)
    print('host: the guest tells', 'total and free' if 128 << 20 < s[5] < s[0] and 0 < s[6] < s[5] else s,
        f'({s[5] >> 20}, {s[6] >> 20} MiB, {s[4]} ms ago)', flush=True)
    call(where, 4, 0)
    until(lambda: stats(where)[2] == 0)
    print('host: balloon', stats(where)[2], flush=True)
    os.kill(pid, signal.SIGTERM)

def listener(where):
    if os.path.exists(where + '/vmm.sock'):
        os.unlink(where + '/vmm.sock')
    ctl = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ctl.bind(where + '/vmm.sock')
    ctl.listen()
    return ctl

def boot(where, cpus, words):
    ctl = listener(where)
    port, theirs = socket.socketpair()
    notify, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    gate, opener = os.pipe()
    stdin, feed = os.pipe()
    drain, stdout = os.pipe()
    console, out = os.pipe()
    net = tap()
    kernel = os.open('/boot/vmlinuz-' + os.uname().release, os.O_RDONLY)
    ram = os.open(where + '/initrd', os.O_RDONLY)
    disk = os.open(where + '/disk', os.O_RDWR)
    null = os.open('/dev/null', os.O_RDONLY)
    given = [kernel, ram, disk, null, out, net, gate, stdin, stdout, ctl.fileno(), theirs.fileno(), told.fileno()]
    common = ['memory=256M', f'cpus={cpus}', f'console={null},{out}', f'disk={disk},serial=vps-web1',
        f'net={net},02:00:00:00:88:02']
    prefix = ['unshare', '--pid', '--fork'] if 'reboot' in words else []
    vmm = subprocess.Popen(prefix + ['vps-vmm', *common, f'kernel={kernel}', f'initrd={ram}',
        f'cmdline=console=ttyS0 quiet panic=1 pci=off net.ifnames=0 do={words}', f'ctl={ctl.fileno()}',
        f'port=7,{theirs.fileno()}', f'port=16,{stdin},in', f'port=17,{stdout},out', f'notify={told.fileno()}',
        f'gate={gate}'], pass_fds=given)
    ctl.close()
    for fd in (gate, stdin, stdout, theirs.detach(), told.detach()):
        os.close(fd)
    if 'shut' in words:
        os.close(opener)
    else:
        os.write(opener, b'x')
    pid = vmm.pid
    if 'tick' not in words:
        os.close(out)
    full = ticks = 0
    for line in os.fdopen(console, errors='replace'):
        print(line.rstrip(), flush=True)
        if 'net ready' in line:
            net_peer()
        elif 'vsock ready' in line:
            threading.Thread(target=vsock_peer, args=[where, port]).start()
        elif 'button ready' in line and 'memory' not in words:
            vmm.send_signal(signal.SIGTERM)
        elif 'agent ready' in line:
            vmm.send_signal(signal.SIGRTMIN + 3)
        elif 'kernel:' in line and 'stdio' in words:
            sent = os.urandom(300000)
            threading.Thread(target=lambda: (os.write(feed, sent[:1000]), os.fdopen(feed, 'wb').write(sent[1000:]))).start()
            def check():
                got = os.fdopen(drain, 'rb').read()
                print('host: stdout', 'same' if got == sent else f'{len(got)} bytes', flush=True)
            threading.Thread(target=check).start()
        elif 'memory taken' in line:
            full = rss(pid)
        elif 'memory given' in line:
            threading.Thread(target=memory_peer, args=[where, pid, full]).start()
        elif 'tick' in line:
            ticks += 1
            if ticks == 10:
                vmm = again(where, vmm, common, out)
            elif ticks == 20:
                vmm.kill()
                break
    status = vmm.wait()
    for said in iter(lambda: heard(notify), None):
        print('host: told', said, flush=True)
    if status < 0:
        print('host: ended by signal', -status, flush=True)
    return status

def heard(notify):
    notify.setblocking(False)
    try:
        return notify.recv(4096).decode() or None
    except BlockingIOError:
        return None

def again(where, vmm, common, out):
    """Write it to a file, kill it, and let it go on from there."""
    t = time.monotonic()
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(where + '/vmm.sock')
    snap = os.open(where + '/snapshot', os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    socket.send_fds(s, [struct.pack('=II3Q', 1, 9, 1, 0, 0)], [snap])
    _, result, why = struct.unpack('=Ii120s', s.recv(128))
    print('host: snapshot', result, why.split(b'\0')[0].decode(), f'in {time.monotonic() - t:.2f} s,',
        os.fstat(snap).st_blocks >> 11, 'MiB', flush=True)
    vmm.kill()
    vmm.wait()
    ctl = listener(where)
    fds = [int(n.split('=')[1].split(',')[0]) for n in common if n.startswith(('disk', 'net'))]
    null = int(common[2].split('=')[1].split(',')[0])
    vmm = subprocess.Popen(['vps-vmm', *common, f'restore={snap}', f'ctl={ctl.fileno()}'],
        pass_fds=[*fds, null, out, snap, ctl.fileno()])
    ctl.close()
    os.close(out)
    return vmm

if sys.argv[1] == 'initrd':
    initrd(sys.argv[2], sys.argv[3], sys.argv[4:])
else:
    sys.exit(boot(*sys.argv[1:]))
