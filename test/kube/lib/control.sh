# shellcheck shell=bash
# The control plane: etcd, API server, controller manager and scheduler, as
# plain daemons in node 1's network namespace, so that the API server reaches
# pods (webhooks) as any pod's neighbour does. Sourced after process.sh and
# fabric.sh.

PKI=$STATE/pki

make_pki() {
	local n all=()
	for n in $(seq "$NODES"); do all+=(-node "node$n=$(ip4_of "$n"),$(ip6_of "$n")"); done
	"$BIN/certs" -dir "$PKI" -server "https://$(host_port "$(ip_of 1)" 6443)" -admin-server "https://127.0.0.1:$(api_port)" \
		-san "node1,$(ip4_of 1),$(ip6_of 1),$API_SERVICE_IPS" "${all[@]}"
}

start_etcd() {
	daemon etcd "$(netns_of 1)" "$BIN/etcd" --name kube --data-dir "$STATE/etcd" \
		--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
		--listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
		--initial-cluster kube=http://127.0.0.1:2380 --unsafe-no-fsync --log-level warn
}

start_apiserver() {
	daemon kube-apiserver "$(netns_of 1)" "$BIN/kube-apiserver" \
		--etcd-servers=http://127.0.0.1:2379 \
		--bind-address="$(if has6; then echo ::; else echo 0.0.0.0; fi)" --secure-port=6443 --advertise-address="$(ip_of 1)" \
		--service-cluster-ip-range="$(of_family "$SERVICE_CIDR" "$SERVICE_CIDR6")" \
		--allow-privileged=true \
		--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
		--client-ca-file="$PKI/ca.crt" \
		--tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
		--kubelet-certificate-authority="$PKI/ca.crt" \
		--kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" \
		--kubelet-client-key="$PKI/apiserver-kubelet-client.key" \
		--kubelet-preferred-address-types=InternalIP,Hostname \
		--service-account-issuer=https://kubernetes.default.svc.cluster.local \
		--service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" \
		--requestheader-client-ca-file="$PKI/front-proxy-ca.crt" \
		--requestheader-allowed-names=front-proxy-client \
		--requestheader-username-headers=X-Remote-User \
		--requestheader-group-headers=X-Remote-Group \
		--requestheader-extra-headers-prefix=X-Remote-Extra- \
		--proxy-client-cert-file="$PKI/front-proxy-client.crt" \
		--proxy-client-key-file="$PKI/front-proxy-client.key"
}

# The CNI does the addresses itself; only the plain ptp one wants a CIDR per node.
start_controller_manager() {
	local allocate=(--allocate-node-cidrs=false) conf=$PKI/controller-manager.conf
	if [ "$CNI" = ptp ]; then
		allocate=(--allocate-node-cidrs=true --cluster-cidr="$(of_family "$POD_CIDR" "$POD_CIDR6")"
			--service-cluster-ip-range="$(of_family "$SERVICE_CIDR" "$SERVICE_CIDR6")")
	fi
	daemon kube-controller-manager "$(netns_of 1)" "$BIN/kube-controller-manager" \
		--kubeconfig="$conf" --authentication-kubeconfig="$conf" --authorization-kubeconfig="$conf" \
		--bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials=true \
		--root-ca-file="$PKI/ca.crt" --service-account-private-key-file="$PKI/sa.key" \
		--cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
		--client-ca-file="$PKI/ca.crt" --requestheader-client-ca-file="$PKI/front-proxy-ca.crt" \
		"${allocate[@]}"
}

start_scheduler() {
	local conf=$PKI/scheduler.conf
	daemon kube-scheduler "$(netns_of 1)" "$BIN/kube-scheduler" \
		--kubeconfig="$conf" --authentication-kubeconfig="$conf" --authorization-kubeconfig="$conf" \
		--bind-address=127.0.0.1 --leader-elect=false
}

# The API server answers on 127.0.0.1 of the root namespace too, by way of a
# unix socket: no address of the nodes is used there.
start_forwarder() {
	local socket=$STATE/api.sock
	running forward-in || rm -f "$socket"
	daemon forward-in "$(netns_of 1)" socat "UNIX-LISTEN:$socket,fork" TCP:127.0.0.1:6443
	daemon forward-out - socat "TCP-LISTEN:$(api_port),bind=127.0.0.1,reuseaddr,fork" "UNIX-CONNECT:$socket"
	sleep 0.2
	running forward-out || die "127.0.0.1:$(api_port) can not be had: see $STATE/logs/forward-out.log"
}

wait_for_apiserver() {
	eventually 90 kubectl get --raw /readyz || die "API server is not ready: see $STATE/logs/kube-apiserver.log"
}
