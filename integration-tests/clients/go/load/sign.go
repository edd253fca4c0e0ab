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
// public keys or of tokens over writ.node.v1, or of certificate requests as SPIRE's agents do.
func sign(args []string) (any, error) {
	flags := flag.NewFlagSet("sign", flag.ExitOnError)
	admin := flags.String("admin", "", "the server's Unix socket")
	server := flags.String("server", "", "host:port")
	token := flags.String("token", "", "an unused join token")
	domain := flags.String("trust-domain", "", "the trust domain")
	file := flags.String("bundle", "", "a file with the trust domain's bundle (JWKS)")
	size := flags.Int("batch", 100, "how many in one call")
	what := flags.String("what", "keys", "keys, tokens or requests")
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
	call, err := callOf(*what, entry, *size)
	if err != nil {
		return nil, err
	}

	return together(*connections, *size, *seconds, func(end time.Time) ([]time.Duration, error) {
		config := tlsconfig.MTLSClientConfig(node, bundle, tlsconfig.AuthorizeMemberOf(td))
		return signer(*server, config, call, *size, end)
	})
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

// A call is a request that is sent again and again, and the field of a result in which what was asked for comes.
type call struct {
	method  string
	request []byte
	field   protowire.Number
}

// callOf has items = 1 { entry_id = 1, what is signed = 2 } in each request, over either wire.
func callOf(what, entry string, size int) (made call, err error) {
	var one func(n int) ([]byte, error)
	switch what {
	case "keys": // writ.node.v1.SignRequest
		made, one = call{"/writ.node.v1.Node/Sign", nil, 1}, func(int) ([]byte, error) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return nil, err
			}
			return x509.MarshalPKIXPublicKey(key.Public())
		}
	case "tokens": // writ.node.v1.SignJwtRequest
		made, one = call{"/writ.node.v1.Node/SignJwt", nil, 1}, func(n int) ([]byte, error) {
			return fmt.Appendf(nil, "audience-%d", n), nil
		}
	case "requests": // spire.api.server.svid.v1.BatchNewX509SVIDRequest
		made, one = call{"/spire.api.server.svid.v1.SVID/BatchNewX509SVID", nil, 2}, func(int) ([]byte, error) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return nil, err
			}
			return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		}
	default:
		return made, fmt.Errorf("there is nothing called %q to sign", what)
	}
	for n := range size {
		signed, err := one(n)
		if err != nil {
			return made, err
		}
		item := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), entry)
		item = protowire.AppendBytes(protowire.AppendTag(item, 2, protowire.BytesType), signed)
		made.request = protowire.AppendBytes(protowire.AppendTag(made.request, 1, protowire.BytesType), item)
	}
	return made, nil
}

// bytesCodec sends and receives messages that are encoded already.
type bytesCodec struct{}

func (bytesCodec) Name() string                    { return "proto" }
func (bytesCodec) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(d []byte, v any) error { *v.(*[]byte) = d; return nil }

func signer(server string, config *tls.Config, call call, size int, end time.Time) (took []time.Duration, err error) {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	for time.Now().Before(end) {
		begun := time.Now()
		var answer []byte
		err := conn.Invoke(context.Background(), call.method, &call.request, &answer,
			grpc.ForceCodec(bytesCodec{}))
		if err != nil {
			return nil, err
		}
		if signed := results(answer, call.field); signed != size {
			return nil, fmt.Errorf("%d of %d were signed", signed, size)
		}
		took = append(took, time.Since(begun))
	}
	return took, nil
}

// results counts the results (field 1) in which there is what was asked for.
func results(answer []byte, wanted protowire.Number) (count int) {
	for len(answer) > 0 {
		number, kind, n := protowire.ConsumeTag(answer)
		if n < 0 || number != 1 || kind != protowire.BytesType {
			return -1
		}
		result, m := protowire.ConsumeBytes(answer[n:])
		if m < 0 {
			return -1
		}
		for len(result) > 0 {
			field, _, l := protowire.ConsumeField(result)
			if l < 0 {
				return -1
			}
			if field == wanted {
				count++
				break
			}
			result = result[l:]
		}
		answer = answer[n+m:]
	}
	return count
}
