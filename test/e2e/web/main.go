// The workload of the end-to-end tests: without arguments it serves its host name on port 8080 and logs each request;
// "web get URL" prints what URL answers, "web lookup NAME COUNT" looks a name up so often and prints what it was told each
// time, and "web hostname" prints its own name.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	switch {
	case len(os.Args) == 1:
		http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			log.Printf("url:%s from %s", r.URL, r.RemoteAddr)
			fmt.Fprint(w, name)
		})
		log.Fatal(http.ListenAndServe(":8080", nil))
	case len(os.Args) == 3 && os.Args[1] == "get":
		client := http.Client{Timeout: 5 * time.Second}
		response, err := client.Get(os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.Copy(os.Stdout, response.Body); err != nil {
			log.Fatal(err)
		}
	case len(os.Args) == 4 && os.Args[1] == "lookup":
		count, err := strconv.Atoi(os.Args[3])
		if err != nil {
			log.Fatal(err)
		}
		for range count {
			addresses, err := net.DefaultResolver.LookupHost(context.Background(), os.Args[2])
			if err != nil {
				fmt.Println(err)
			} else {
				fmt.Println(addresses)
			}
			time.Sleep(200 * time.Millisecond)
		}
	case len(os.Args) == 2 && os.Args[1] == "hostname":
		fmt.Print(name)
	default:
		log.Fatalf("usage: web [get URL | lookup NAME COUNT | hostname]")
	}
}
