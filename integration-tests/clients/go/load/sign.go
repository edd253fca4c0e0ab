package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protowire"
)

// sign joins as an agent of its own, has an entry made for it, and has the server sign batches of
// public keys, or of tokens, over writ.node.v1.
func sign(args []string) (any, error) {
	flags := flag.NewFlagSet("sign", flag.ExitOnError)
	admin := flags.String("admin", "", "the server's Unix socket")
	server := flags.String("server", "", "host:port")
	token := flags.String("token", "", "an unused join token")
	domain := flags.String("trust-domain", "", "the trust domain")
	file := flags.String("bundle", "", "a file with the trust domain's bundle (JWKS)")
	size := flags.Int("batch", 100, "how many keys or tokens in one call")
	tokens := flags.Bool("tokens", false, "tokens instead of keys")
	connections := flags.Int("connections", 4, "how many at once")
	seconds := flags.Float64("seconds", 2, "how long")
	_ = flags.Parse(args)

	td, err := spiffeid.TrustDomainFromString(*domain)
	if err != nil {
		return nil, err
	}
	bundle, err := spiffebundle.Load(td, *file)
	if err != nil {
		return nil, err
	}
	node, err := join(*server, *token, td, bundle)
	if err != nil {
		return nil, fmt.Errorf("joining: %w", err)
	}
	registry, err := connect(*admin, node.ID.String(), "unix:uid:0")
	if err != nil {
		return nil, err
	}
	entry, err := registry.create("/signed")
	if err != nil {
		return nil, err
	}
	request, err := signRequest(entry, *size)
	method := "/writ.node.v1.Node/Sign"
	if *tokens {
		request, method = tokenRequest(entry, *size), "/writ.node.v1.Node/SignJwt"
	}
	if err != nil {
		return nil, err
	}

	var mutex sync.Mutex
	var all []time.Duration
	var failed error
	var group sync.WaitGroup
	start := time.Now()
	for range *connections {
		group.Add(1)
		go func() {
			defer group.Done()
			config := tlsconfig.MTLSClientConfig(node, bundle, tlsconfig.AuthorizeMemberOf(td))
			took, err := signer(*server, config, method, request, *size, start.Add(time.Duration(*seconds*float64(time.Second))))
			mutex.Lock()
			defer mutex.Unlock()
			all = append(all, took...)
			failed = errors.Join(failed, err)
		}()
	}
	group.Wait()
	if failed != nil {
		return nil, failed
	}
	return of(all, *size, time.Since(start)), nil
}

// join attests by token, as SPIRE's agent does.
func join(server, token string, td spiffeid.TrustDomain, bundle *spiffebundle.Bundle) (*x509svid.SVID, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	config := tlsconfig.TLSClientConfig(bundle, tlsconfig.AuthorizeID(spiffeid.RequireFromPath(td, "/spire/server")))
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stream, err := agentv1.NewAgentClient(conn).AttestAgent(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{
		Params: &agentv1.AttestAgentRequest_Params{
			Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token)},
			Params: &agentv1.AgentX509SVIDParams{Csr: csr},
		},
	}})
	if err != nil {
		return nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	result := answer.GetResult()
	if result == nil {
		return nil, errors.New("a challenge instead of a certificate")
	}
	chain, err := x509.ParseCertificates([]byte(strings.Join(strs(result.Svid.CertChain), "")))
	if err != nil {
		return nil, err
	}
	id, err := x509svid.IDFromCert(chain[0])
	if err != nil {
		return nil, err
	}
	return &x509svid.SVID{ID: id, Certificates: chain, PrivateKey: key}, nil
}

func strs(all [][]byte) []string {
	out := make([]string, len(all))
	for i, one := range all {
		out[i] = string(one)
	}
	return out
}

// signRequest is a writ.node.v1.SignRequest: items = 1 { entry_id = 1, public_key = 2 }.
func signRequest(entry string, size int) ([]byte, error) {
	var request []byte
	for range size {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		public, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return nil, err
		}
		item := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), entry)
		item = protowire.AppendBytes(protowire.AppendTag(item, 2, protowire.BytesType), public)
		request = protowire.AppendBytes(protowire.AppendTag(request, 1, protowire.BytesType), item)
	}
	return request, nil
}

// tokenRequest is a writ.node.v1.SignJwtRequest: items = 1 { entry_id = 1, audience = 2 }.
func tokenRequest(entry string, size int) (request []byte) {
	for n := range size {
		item := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), entry)
		item = protowire.AppendString(protowire.AppendTag(item, 2, protowire.BytesType), fmt.Sprintf("audience-%d", n))
		request = protowire.AppendBytes(protowire.AppendTag(request, 1, protowire.BytesType), item)
	}
	return request
}

// bytesCodec sends and receives messages that are encoded already.
type bytesCodec struct{}

func (bytesCodec) Name() string                    { return "proto" }
func (bytesCodec) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(d []byte, v any) error { *v.(*[]byte) = d; return nil }

func signer(server string, config *tls.Config, method string, request []byte, size int, end time.Time) (took []time.Duration, err error) {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	for time.Now().Before(end) {
		begun := time.Now()
		var answer []byte
		err := conn.Invoke(context.Background(), method, &request, &answer,
			grpc.ForceCodec(bytesCodec{}))
		if err != nil {
			return nil, err
		}
		if signed := chains(answer); signed != size {
			return nil, fmt.Errorf("%d of %d were signed", signed, size)
		}
		took = append(took, time.Since(begun))
	}
	return took, nil
}

// chains counts the results (field 1) that hold a certificate or a token (their field 1).
func chains(answer []byte) (count int) {
	for len(answer) > 0 {
		number, kind, n := protowire.ConsumeTag(answer)
		if n < 0 || number != 1 || kind != protowire.BytesType {
			return -1
		}
		result, m := protowire.ConsumeBytes(answer[n:])
		if m < 0 {
			return -1
		}
		if field, _, l := protowire.ConsumeTag(result); l > 0 && field == 1 {
			count++
		}
		answer = answer[n+m:]
	}
	return count
}
