// Package check asks Portcullis whether a key opens a call.
package check

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"example.com/portcullis-check/portcullis/v1"
)

// Refusal says why the service must not serve its caller, and the HTTP status to say so with.
type Refusal struct {
	Status int
	Reason string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d %s", r.Status, r.Reason) }

// Check asks the first replica and, if that one cannot answer, once more the second, all within the deadline of ctx
// (half a second if it has none). Whatever is not a clear ALLOW is an error, and always a *Refusal.
func Check(ctx context.Context, replicas []portcullisv1.CheckServiceClient, asked *portcullisv1.CheckRequest) (*portcullisv1.CheckResponse, error) {
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(500 * time.Millisecond)
	}
	refusal := &Refusal{503, "no replica was asked"}
	attempts := min(len(replicas), 2)
	for n, replica := range replicas[:attempts] {
		// One that hangs may not use up the time of the other.
		share := time.Until(end) / time.Duration(attempts-n)
		once, cancel := context.WithTimeout(ctx, share)
		answer, err := replica.Check(once, asked)
		cancel()
		if err == nil {
			return judge(answer)
		}
		switch code := status.Code(err); code {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled: // Some servers call a timeout CANCELLED.
			refusal = &Refusal{503, code.String()}
		case codes.InvalidArgument, codes.OutOfRange:
			// Nothing that was asked; another replica would say the same.
			return nil, &Refusal{400, code.String()}
		default:
			// Portcullis could not decide, or does not know this service. That is nobody's fault but ours: never 401.
			return nil, &Refusal{503, code.String()}
		}
	}
	return nil, refusal
}

// judge says what a decision means. Only `allowed` together with OK opens the call.
func judge(answer *portcullisv1.CheckResponse) (*portcullisv1.CheckResponse, error) {
	reason := answer.GetReason()
	switch reason {
	case portcullisv1.CheckResponse_OK:
		if answer.GetAllowed() {
			return answer, nil
		}
		return nil, &Refusal{403, reason.String()}
	case portcullisv1.CheckResponse_INVALID_CREDENTIAL:
		return nil, &Refusal{401, reason.String()}
	case portcullisv1.CheckResponse_INVALID_SETTING, portcullisv1.CheckResponse_INVALID_REQUEST:
		return nil, &Refusal{400, reason.String()}
	case portcullisv1.CheckResponse_UNDECIDED:
		return nil, &Refusal{503, reason.String()}
	default:
		// Disabled, expired, wrong source, lacking a permission; and whatever a later version may say.
		return nil, &Refusal{403, reason.String()}
	}
}

// Connect makes a client of one gate, at host:port or unix:/path. To be kept: connections are reused.
func Connect(address string) (portcullisv1.CheckServiceClient, error) {
	// A proxy has no business here.
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return nil, err
	}
	return portcullisv1.NewCheckServiceClient(connection), nil
}
