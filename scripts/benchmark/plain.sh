#!/usr/bin/env bash
# The least that makes the benchmark's cluster: parallel SSH, files that are rendered already, no check of what is there.
#
# usage: plain.sh FOLDER
# FOLDER (made by plain.mjs) holds ssh_config, hosts ("NAME GROUP..." a line), HOST.tar (configuration with its owners),
# HOST.files (paths in tree/: binaries, images, manifests) and tree/ itself. Stages and their milliseconds are
# appended to FOLDER/times. Every wait has an end.
set -euo pipefail

folder=$1
: "${DNS_ADDRESS:?}" "${DNS_DOMAIN:?}" "${API_ADDRESS:?}" "${API_ENDPOINT:?}"

mapfile -t hosts < <(cut -d' ' -f1 "$folder/hosts")
mapfile -t masters < <(awk '/ masters/ { print $1 }' "$folder/hosts")
mapfile -t workers < <(awk '/ nodes/ { print $1 }' "$folder/hosts")
first=${masters[0]}

# on HOST SECONDS: runs the script of stdin on the host, as root.
on() {
  timeout --foreground "$2" ssh -F "$folder/ssh_config" "$1" "PATH=/opt/k8s/bin:\$PATH bash -euo pipefail -s"
}

# everywhere FUNCTION: runs `FUNCTION HOST` for all hosts side by side; fails when all have ended, if one failed.
everywhere() {
  local host pid pids=() status=0
  for host in "${hosts[@]}"; do
    "$1" "$host" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || status=1
  done
  return "$status"
}

# stage NAME COMMAND...: runs the command and notes how long it took.
stage() {
  local name=$1 begin
  shift
  begin=$(date +%s%3N)
  "$@"
  echo "$name $(($(date +%s%3N) - begin))" >>"$folder/times"
}

# Accounts, and everything that goes to a host in one stream.
send() {
  local account='useradd --system --shell /usr/sbin/nologin --home-dir /nonexistent --no-create-home'
  {
    cat "$folder/$1.tar"
    tar -C "$folder/tree" -chf - --owner=root --group=root -T "$folder/$1.files"
  } | timeout --foreground 300 ssh -F "$folder/ssh_config" "$1" \
    "umask 022 && $account etcd && $account kube && tar -C / -xpi --overwrite -f -"
}

# Kernel parameters, runtime, images, and on masters etcd and the control plane; systemd orders the units.
start() {
  on "$1" 240 <<'REMOTE'
while IFS=' =' read -r key value; do
  case $key in '' | '#'*) continue ;; esac
  [ "$(sysctl -n "$key")" = "$value" ] || sysctl -q -w "$key=$value"
done </etc/sysctl.d/90-k8s-ans.conf
systemctl daemon-reload
units=()
for unit in etcd kube-apiserver kube-controller-manager kube-scheduler kube-csr-approver kube-nginx; do
  [ ! -e "/etc/systemd/system/$unit.service" ] || units+=("$unit")
done
systemctl enable -q containerd "${units[@]}"
systemctl start "${units[@]}" &
systemctl start containerd
for archive in /opt/k8s/work/images/*.tar; do
  ctr --namespace k8s.io images import --digests=false "$archive"
done
wait $!
REMOTE
}

# RBAC and CoreDNS; prints a bootstrap token.
grant() {
  on "$first" 120 <<'REMOTE'
export KUBECONFIG=/etc/kubernetes/admin.kubeconfig
# The API server makes kube-system a moment after it is ready.
until kubectl apply --server-side -f /opt/k8s/work/manifests.json >&2; do
  [ "$SECONDS" -lt 60 ] || exit 1
  sleep 0.3
done
kubeadm token create --ttl 30m
REMOTE
}

grant_and_keep() {
  token=$(grant)
}

join() {
  on "$1" 120 <<REMOTE
umask 077
cat >/etc/kubernetes/bootstrap.kubeconfig <<END
apiVersion: v1
kind: Config
clusters: [{name: plain, cluster: {server: "$API_ENDPOINT", certificate-authority: /etc/kubernetes/cert/ca.crt}}]
users: [{name: bootstrap, user: {token: "$token"}}]
contexts: [{name: bootstrap, context: {cluster: plain, user: bootstrap}}]
current-context: bootstrap
END
systemctl enable -q --now kubelet kube-proxy flanneld
REMOTE
}

# The nodes' labels; all nodes Ready, CoreDNS rolled out.
ready() {
  on "$first" 420 <<REMOTE
export KUBECONFIG=/etc/kubernetes/admin.kubeconfig
until [ "\$(kubectl get nodes -o name | wc -l)" -eq ${#hosts[@]} ]; do
  [ "\$SECONDS" -lt 120 ] || exit 1
  sleep 0.3
done
[ -z "${masters[*]}" ] || kubectl label node ${masters[*]} node-role.kubernetes.io/control-plane=
[ -z "${workers[*]}" ] || kubectl label node ${workers[*]} node-role.kubernetes.io/node=
kubectl wait node --all --for=condition=Ready --timeout=120s
kubectl --namespace kube-system rollout status deployment/coredns --timeout=180s
REMOTE
}

# What deploy's last play asks of every host.
check() {
  on "$1" 90 <<REMOTE
until curl -fsS -m 3 -o /dev/null --cacert /etc/kubernetes/cert/ca.crt "$API_ENDPOINT/readyz" &&
  timeout 3 python3 -c '
import socket, sys
server, name, address = sys.argv[1:]
labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
query = bytes([7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + labels + bytes([0, 0, 1, 0, 1])
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect((server, 53))
client.send(query)
sys.exit(socket.inet_aton(address) not in client.recv(4096))
' "$DNS_ADDRESS" "kubernetes.default.svc.$DNS_DOMAIN" "$API_ADDRESS"; do
  [ "\$SECONDS" -lt 60 ] || exit 1
  sleep 0.3
done
REMOTE
}

stage send everywhere send
stage start everywhere start
stage grant grant_and_keep
stage join everywhere join
stage ready ready
stage check everywhere check
