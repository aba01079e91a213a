module k8s-ans/test/web

go 1.24
