// Command watch is an ordinary go-spiffe workload: it follows its X.509 context as the library
// does by itself and prints one JSON line for each thing that the library tells it.
package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/status"
)

type line struct {
	Event   string   `json:"event"`
	IDs     []string `json:"ids,omitempty"`
	Serials []string `json:"serials,omitempty"`
	Bundles []string `json:"bundles,omitempty"`
	Code    string   `json:"code,omitempty"`
	Message string   `json:"message,omitempty"`
	At      int64    `json:"at_us"`
}

type printer struct {
	sync.Mutex
	out *json.Encoder
}

func (p *printer) print(l line) {
	p.Lock()
	defer p.Unlock()
	l.At = time.Now().UnixMicro()
	_ = p.out.Encode(l)
}

// OnX509ContextUpdate checks each SVID against the bundle that came with it before it tells of it.
func (p *printer) OnX509ContextUpdate(c *workloadapi.X509Context) {
	l := line{Event: "svids"}
	for _, svid := range c.SVIDs {
		bundle, err := c.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
		if err != nil {
			p.print(line{Event: "broken", Message: err.Error()})
			return
		}
		roots := x509.NewCertPool()
		for _, root := range bundle.X509Authorities() {
			roots.AddCert(root)
		}
		between := x509.NewCertPool()
		for _, cert := range svid.Certificates[1:] {
			between.AddCert(cert)
		}
		leaf := svid.Certificates[0]
		if _, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		}); err != nil {
			p.print(line{Event: "broken", Message: err.Error()})
			return
		}
		l.IDs = append(l.IDs, svid.ID.String())
		l.Serials = append(l.Serials, leaf.SerialNumber.Text(16))
	}
	for _, bundle := range c.Bundles.Bundles() {
		l.Bundles = append(l.Bundles, bundle.TrustDomain().Name())
	}
	p.print(l)
}

func (p *printer) OnX509ContextWatchError(err error) {
	s := status.Convert(err)
	p.print(line{Event: "error", Code: s.Code().String(), Message: s.Message()})
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	// It ends with the test that started it: that one holds the other end of standard input.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	p := &printer{out: json.NewEncoder(os.Stdout)}
	if err := workloadapi.WatchX509Context(ctx, p); err != nil && ctx.Err() == nil {
		p.OnX509ContextWatchError(err)
		os.Exit(1)
	}
}
