// Greets a server over mutual TLS, by its SPIFFE ID: client ADDRESS SERVER_ID.
//
// No key and no certificate is configured anywhere. Both come from the agent behind
// SPIFFE_ENDPOINT_SOCKET. The server's DNS name plays no part: who it is, its certificate says.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: client ADDRESS SERVER_ID")
	}
	server, err := spiffeid.FromString(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	if err := call(os.Args[1], server); err != nil {
		log.Fatal(err)
	}
}

func call(address string, server spiffeid.ID) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return fmt.Errorf("no identity from the agent: %w", err)
	}
	defer source.Close()
	own, err := source.GetX509SVID()
	if err != nil {
		return err
	}

	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(server))
	connection, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	fmt.Fprintf(connection, "greetings from %s", own.ID)
	if err := connection.(*tls.Conn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(connection, 1024))
	if err != nil {
		return err
	}
	fmt.Printf("%s said: %s\n", server, answer)
	return nil
}
