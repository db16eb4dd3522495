// Command fakecloud is Tencent Cloud's HAVIPs on a loopback port, for tests that are not written in Go.
//
//	go run ./jepsen/fakecloud/cmd -config cloud.json [-listen 127.0.0.1:0]
//
// It prints the address that it listens at as its first line, and runs until it is ended.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"havip-cluster/jepsen/fakecloud"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fakecloud:", err)
		os.Exit(1)
	}
}

func run() error {
	config := flag.String("config", "", "file with a fakecloud.Config as JSON")
	listen := flag.String("listen", "127.0.0.1:0", "where to listen, on loopback")
	flag.Parse()
	var c fakecloud.Config
	if *config != "" {
		raw, err := os.ReadFile(*config)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, &c); err != nil {
			return fmt.Errorf("%s: %w", *config, err)
		}
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	if at, ok := l.Addr().(*net.TCPAddr); !ok || !at.IP.IsLoopback() {
		_ = l.Close()
		return fmt.Errorf("%s is not on loopback: it asks nobody who he is", *listen)
	}
	fmt.Println("http://" + l.Addr().String())
	s := &http.Server{Handler: fakecloud.New(c).Program(), ReadHeaderTimeout: 5 * time.Second}
	return s.Serve(l)
}
