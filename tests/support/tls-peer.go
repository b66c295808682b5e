// SPDX-License-Identifier: BSD-3-Clause

// Go's crypto/tls as a peer of tests/integration/test_peers.py.
//
//	go-peer server CERT KEY [CERT KEY ...]   prints {"listening": PORT}, echoes until standard input ends
//	go-peer client CA                        jobs on standard input: PORT VERSION SUITE CONNECTIONS SEND EXPECT
//
// Jobs and output are those of tls-peer.js; suites are Go's names. Go lets nobody choose among its TLS 1.3 suites: those of the
// other side decide.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

var suites = map[string]uint16{}

func say(name string, value interface{}) {
	line, _ := json.Marshal(map[string]interface{}{name: value})
	fmt.Println(string(line))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func server(files []string) {
	config := &tls.Config{}
	for _, suite := range suites {
		config.CipherSuites = append(config.CipherSuites, suite)
	}
	for i := 0; i+1 < len(files); i += 2 {
		cert, err := tls.LoadX509KeyPair(files[i], files[i+1])
		must(err)
		config.Certificates = append(config.Certificates, cert)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	must(err)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	say("listening", listener.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := listener.Accept()
		must(err)
		go func() {
			if _, err := io.Copy(conn, conn); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			conn.Close()
		}()
	}
}

func connect(config *tls.Config, port int, send, expect []byte) error {
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), config)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(send)
		sent <- err
	}()
	got := make([]byte, len(expect))
	if n, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("%d bytes came, not the %d that were expected: %w", n, len(expect), err)
	}
	if err := <-sent; err != nil { // Close during a Write sends no close_notify
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if n, err := io.Copy(io.Discard, conn); err != nil || n > 0 { // a close with anything unread would reset the connection
		return fmt.Errorf("%d bytes too many came: %v", n, err)
	}
	if !bytes.Equal(got, expect) {
		return fmt.Errorf("wrong bytes came")
	}
	return nil
}

func job(roots *x509.CertPool, line string) {
	var port, connections int
	var version, suite, send, expect string
	_, err := fmt.Sscan(line, &port, &version, &suite, &connections, &send, &expect)
	must(err)
	config := &tls.Config{RootCAs: roots, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if version == "1.3" {
		config.MinVersion, config.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
	}
	config.CipherSuites = []uint16{suites[suite]}
	out, err := os.ReadFile(send)
	must(err)
	back, err := os.ReadFile(expect)
	must(err)
	for i := 0; i < connections; i++ {
		text := ""
		if err := connect(config, port, out, back); err != nil {
			text = err.Error()
		}
		say("error", text)
	}
}

func main() {
	for _, suite := range tls.CipherSuites() {
		suites[suite.Name] = suite.ID
	}
	if os.Args[1] == "server" {
		server(os.Args[2:])
		return
	}
	pem, err := os.ReadFile(os.Args[2])
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		job(roots, lines.Text())
	}
}
