// Greets one client over mutual TLS, by its SPIFFE ID: server ADDRESS CLIENT_ID.
//
// No key and no certificate is configured anywhere. Both come from the agent behind
// SPIFFE_ENDPOINT_SOCKET, and each new connection uses the newest ones.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: server ADDRESS CLIENT_ID")
	}
	client, err := spiffeid.FromString(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	if err := serve(context.Background(), os.Args[1], client); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, address string, client spiffeid.ID) error {
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return fmt.Errorf("no identity from the agent: %w", err)
	}
	defer source.Close()
	own, err := source.GetX509SVID()
	if err != nil {
		return err
	}

	config := tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(client))
	listener, err := tls.Listen("tcp", address, config)
	if err != nil {
		return err
	}
	fmt.Printf("%s listens on %s\n", own.ID, listener.Addr())
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go greet(connection, client)
	}
}

func greet(connection net.Conn, client spiffeid.ID) {
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(10 * time.Second))
	said, err := io.ReadAll(io.LimitReader(connection, 1024))
	if err != nil {
		log.Printf("refused a connection: %v", err)
		return
	}
	fmt.Printf("%s said: %s\n", client, said)
	fmt.Fprintf(connection, "hello, %s", client)
}
