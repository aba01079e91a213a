// CoreDNS.
module k8s-ans/artifacts/coredns

go 1.25.0

tool github.com/coredns/coredns
