// Command judge answers the questions of `writ validate --stdin-jsonl` with go-spiffe's verdicts, line by line.
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

type question struct {
	ID    json.RawMessage `json:"id"`
	Op    string          `json:"op"`
	Input json.RawMessage `json:"input"`
}

type answer struct {
	ID      json.RawMessage `json:"id"`
	Verdict string          `json:"verdict"`
	Value   map[string]any  `json:"value"`
	Error   string          `json:"error"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	out := bufio.NewWriter(os.Stdout)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			fmt.Fprintln(os.Stderr, "judge:", err)
			os.Exit(1)
		}
		a := answer{ID: q.ID, Verdict: "ok"}
		if value, err := judge(q); err != nil {
			a.Verdict, a.Error = "reject", err.Error()
		} else {
			a.Value = value
		}
		if answers.Encode(a) != nil || out.Flush() != nil {
			os.Exit(1)
		}
	}
}

func judge(q question) (map[string]any, error) {
	switch q.Op {
	case "spiffe_id":
		return spiffeID(q.Input)
	case "trust_domain":
		return trustDomain(q.Input)
	case "bundle_parse":
		return bundle(q.Input)
	case "jwtsvid_validate":
		return jwt(q.Input)
	case "x509svid_verify":
		return chain(q.Input)
	}
	return nil, errors.New("unsupported")
}

func spiffeID(input []byte) (map[string]any, error) {
	var in struct {
		ID []byte `json:"id_b64"`
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, err
	}
	id, err := spiffeid.FromString(string(in.ID))
	if err != nil {
		return nil, err
	}
	return map[string]any{"trust_domain": id.TrustDomain().Name(), "path": id.Path()}, nil
}

func trustDomain(input []byte) (map[string]any, error) {
	var in struct {
		Name []byte `json:"s_b64"`
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, err
	}
	td, err := spiffeid.TrustDomainFromString(string(in.Name))
	if err != nil {
		return nil, err
	}
	return map[string]any{"trust_domain": td.Name()}, nil
}

func bundle(input []byte) (map[string]any, error) {
	var in struct {
		TrustDomain string `json:"trust_domain"`
		Document    []byte `json:"doc_b64"`
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, err
	}
	td, err := spiffeid.TrustDomainFromString(in.TrustDomain)
	if err != nil {
		return nil, err
	}
	b, err := spiffebundle.Parse(td, in.Document)
	if err != nil {
		return nil, err
	}
	value := map[string]any{
		"x509_authorities": len(b.X509Authorities()),
		"jwt_authorities":  len(b.JWTAuthorities()),
		"sequence":         nil,
		"refresh_hint":     nil,
	}
	if sequence, ok := b.SequenceNumber(); ok {
		value["sequence"] = sequence
	}
	if hint, ok := b.RefreshHint(); ok {
		value["refresh_hint"] = int64(hint / time.Second)
	}
	return value, nil
}

func jwt(input []byte) (map[string]any, error) {
	var in struct {
		Token    string                     `json:"token"`
		Audience []string                   `json:"audience"`
		Keys     map[string]json.RawMessage `json:"jwks"`
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, err
	}
	bundles := jwtbundle.NewSet()
	for name, keys := range in.Keys {
		td, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return nil, err
		}
		b, err := spiffebundle.Parse(td, keys)
		if err != nil {
			return nil, err
		}
		bundles.Add(b.JWTBundle())
	}
	svid, err := jwtsvid.ParseAndValidate(in.Token, bundles, in.Audience)
	if err != nil {
		return nil, err
	}
	return map[string]any{"spiffe_id": svid.ID.String()}, nil
}

func chain(input []byte) (map[string]any, error) {
	var in struct {
		Chain   [][]byte            `json:"chain_der_b64"`
		Bundles map[string][][]byte `json:"bundles"`
		Now     time.Time           `json:"now"`
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, err
	}
	bundles := x509bundle.NewSet()
	for name, ders := range in.Bundles {
		td, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return nil, err
		}
		authorities := []*x509.Certificate{}
		for _, der := range ders {
			authority, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("authority: %w", err)
			}
			authorities = append(authorities, authority)
		}
		bundles.Add(x509bundle.FromX509Authorities(td, authorities))
	}
	id, _, err := x509svid.ParseAndVerify(in.Chain, bundles, x509svid.WithTime(in.Now))
	if err != nil {
		return nil, err
	}
	return map[string]any{"spiffe_id": id.String()}, nil
}
