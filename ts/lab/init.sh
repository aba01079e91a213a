#!/bin/sh
# Process 1 of a lab host until systemd takes over: makes the container look like a server of its own.
#
# It runs at every start, so it holds what a restart undoes (mounts) next to what is done once (identity).
# Who the host is comes in as environment: K8S_LAB_NAME, K8S_LAB_ADDRESS, K8S_LAB_GATEWAY, K8S_LAB_RESOLVER,
# K8S_LAB_MACHINE_ID, K8S_LAB_PRODUCT_UUID, K8S_LAB_AUTHORIZED_KEY.
set -eu

# Without --privileged the engine mounts these read-only. The cgroup mounts need `bind`, else they are busy.
mount -o remount,rw /sys
awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts | while read -r hierarchy; do
  mount -o remount,bind,rw "$hierarchy"
done
if awk '$2 == "/proc/sys" { found = 1 } END { exit !found }' /proc/mounts; then
  mount -o remount,bind,rw /proc/sys
fi

# The engine mounts its own files over these, which cannot be replaced by a rename. A server has plain files.
for file in hosts hostname resolv.conf; do
  if awk -v path="/etc/$file" '$2 == path { found = 1 } END { exit !found }' /proc/mounts; then
    umount "/etc/$file"
  fi
done

if [ ! -e /etc/k8s-lab/made ]; then
  mkdir -p /etc/k8s-lab
  echo "$K8S_LAB_NAME" > /etc/hostname
  # The engine's own resolver (127.0.0.11) is out of reach for pods, and a loop to CoreDNS.
  echo "nameserver $K8S_LAB_RESOLVER" > /etc/resolv.conf
  printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n%s\t%s\n' \
    "$K8S_LAB_ADDRESS" "$K8S_LAB_NAME" > /etc/hosts
  echo "$K8S_LAB_MACHINE_ID" > /etc/machine-id
  mkdir -p /etc/k8s-lab/dmi
  echo "$K8S_LAB_PRODUCT_UUID" > /etc/k8s-lab/dmi/product_uuid
  echo "$K8S_LAB_NAME" > /etc/k8s-lab/dmi/product_serial
  echo "k8s-ans lab host" > /etc/k8s-lab/dmi/product_name
  chmod 0400 /etc/k8s-lab/dmi/product_uuid /etc/k8s-lab/dmi/product_serial
  mkdir -p -m 0700 /root/.ssh
  echo "$K8S_LAB_AUTHORIZED_KEY" > /root/.ssh/authorized_keys
  chmod 0600 /root/.ssh/authorized_keys
  [ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -C '' -f /etc/ssh/ssh_host_ed25519_key
  touch /etc/k8s-lab/made
fi

# Every host its own product_uuid. Where the machine has no DMI at all, sysfs takes no new folder: /sys/class is
# laid over with a folder that holds every class of the machine, and dmi.
if [ -e /sys/class/dmi/id/product_uuid ]; then
  for file in /etc/k8s-lab/dmi/*; do
    [ ! -e "/sys/class/dmi/id/${file##*/}" ] || mount --bind "$file" "/sys/class/dmi/id/${file##*/}"
  done
else
  mkdir -p /run/k8s-lab-class
  mount --bind /sys/class /run/k8s-lab-class
  mount -t tmpfs -o mode=755,size=1m tmpfs /sys/class
  for class in /run/k8s-lab-class/*/; do
    name="$(basename "$class")"
    mkdir "/sys/class/$name"
    # A class without a device is only named: each mount is one more for the kubelet and systemd to read.
    if [ "$name" = net ] || [ -n "$(ls -A "$class")" ]; then
      mount --bind "$class" "/sys/class/$name"
    fi
  done
  umount /run/k8s-lab-class
  rmdir /run/k8s-lab-class
  mkdir -p /sys/class/dmi/id
  cp -p /etc/k8s-lab/dmi/* /sys/class/dmi/id/
fi

# Services need a default route to be looked up; this one leads to an address that nobody has, so that nothing
# leaves the lab.
ip route replace default via "$K8S_LAB_GATEWAY" dev eth0

# systemd leaves propagation alone in a container; the kubelet needs mounts to propagate into pods. After all
# other mounts: from here on each would be repeated in its peers.
mount --make-rshared /

exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=docker /sbin/init
