// Command oras-resume fetches a blob with oras' library and, where the connection breaks off, goes on from what it has
// by seeking, as a program built on the library does. It prints where it went on and the digest of the whole.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: oras-resume HOST:PORT/REPOSITORY DIGEST")
		os.Exit(2)
	}
	if err := fetch(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "oras-resume:", err)
		os.Exit(1)
	}
}

func fetch(ctx context.Context, name, blob string) error {
	repository, err := remote.NewRepository(name)
	if err != nil {
		return err
	}
	repository.PlainHTTP = true
	_, content, err := repository.Blobs().FetchReference(ctx, blob)
	if err != nil {
		return err
	}
	defer content.Close()
	// The library gives a Seeker only where the answer says Accept-Ranges: bytes.
	seeker, ok := content.(io.Seeker)
	if !ok {
		return errors.New("what is served cannot be sought in")
	}

	digester := digest.Canonical.Digester()
	had, broken := io.Copy(digester.Hash(), content)
	if broken != nil {
		// A seek to where it is would ask for nothing: to the end, which gives the connection up, and back.
		if _, err := seeker.Seek(0, io.SeekEnd); err != nil {
			return err
		}
		if _, err := seeker.Seek(had, io.SeekStart); err != nil {
			return err
		}
		fmt.Println("went on at", had)
		if _, err := io.Copy(digester.Hash(), content); err != nil {
			return err
		}
	}
	fmt.Println(digester.Digest())
	return nil
}
