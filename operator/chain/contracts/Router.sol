// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// Pays once. Whoever pays gives each payment an id, and a second payment under the same id is refused, whatever it
/// holds. Ids are each payer's own, so nobody can use up those of somebody else. It owns nothing, and nobody owns it.
contract Router {
    using SafeERC20 for IERC20;

    /// The token is the zero address where it is the network's own coin.
    event Paid(address indexed payer, bytes32 indexed id, address indexed to, address token, uint256 amount);
    event Anchored(address indexed by, bytes32 indexed digest);

    error AlreadyPaid(bytes32 id);
    error ZeroAmount();
    error BadRecipient(address to);
    /// The recipient did not take the coin.
    error NotTaken(address to);
    /// The token moved another amount than it was told to.
    error WrongAmount(uint256 expected, uint256 received);

    mapping(address payer => mapping(bytes32 id => bool)) public paid;

    /// Sends the coin that comes with the call.
    function pay(bytes32 id, address payable to) external payable {
        use(id, to, address(0), msg.value);
        (bool taken,) = to.call{value: msg.value}("");
        if (!taken) revert NotTaken(to);
    }

    /// Sends a token, out of what the caller allows this contract to move.
    function payToken(bytes32 id, address token, address to, uint256 amount) external {
        if (token == address(0)) revert SafeERC20.SafeERC20FailedOperation(token);
        use(id, to, token, amount);
        uint256 before = IERC20(token).balanceOf(to);
        IERC20(token).safeTransferFrom(msg.sender, to, amount);
        uint256 received = IERC20(token).balanceOf(to) - before;
        if (received != amount) revert WrongAmount(amount, received);
    }

    /// Puts a digest where everybody sees when it was there.
    function anchor(bytes32 digest) external {
        emit Anchored(msg.sender, digest);
    }

    /// Comes before anything moves: who is called then finds the id used.
    function use(bytes32 id, address to, address token, uint256 amount) private {
        if (to == address(0) || to == address(this)) revert BadRecipient(to);
        if (amount == 0) revert ZeroAmount();
        if (paid[msg.sender][id]) revert AlreadyPaid(id);
        paid[msg.sender][id] = true;
        emit Paid(msg.sender, id, to, token, amount);
    }
}
