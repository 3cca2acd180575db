// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

interface IRouter {
    function pay(bytes32 id, address payable to) external payable;
    function payToken(bytes32 id, address token, address to, uint256 amount) external;
    function paid(address payer, bytes32 id) external view returns (bool);
}

/// A real ERC-20 with six decimals, as stablecoins have.
contract Token is ERC20 {
    constructor() ERC20("Test Token", "TST") {
        _mint(msg.sender, 1_000_000e6);
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }
}

/// Takes a hundredth of all that is moved.
contract FeeToken is ERC20 {
    constructor() ERC20("Fee Token", "FEE") {
        _mint(msg.sender, 1_000_000e18);
    }

    function _update(address from, address to, uint256 value) internal override {
        uint256 fee = from == address(0) ? 0 : value / 100;
        super._update(from, to, value - fee);
        if (fee > 0) super._update(from, address(this), fee);
    }
}

/// Moves nothing, and says so by returning false.
contract FalseToken {
    function balanceOf(address) external pure returns (uint256) {
        return type(uint256).max;
    }

    function allowance(address, address) external pure returns (uint256) {
        return type(uint256).max;
    }

    function transferFrom(address, address, uint256) external pure returns (bool) {
        return false;
    }
}

/// Moves nothing, and says that it did.
contract LyingToken {
    function balanceOf(address) external pure returns (uint256) {
        return 1;
    }

    function allowance(address, address) external pure returns (uint256) {
        return type(uint256).max;
    }

    function transferFrom(address, address, uint256) external pure returns (bool) {
        return true;
    }
}

/// Moves as it should, but refuses without a word, and returns nothing, as some old tokens do.
contract OldToken {
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    constructor() {
        balanceOf[msg.sender] = 1_000_000e18;
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        require(balanceOf[from] >= amount && allowance[from][msg.sender] >= amount);
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
        allowance[from][msg.sender] -= amount;
    }
}

/// Is paid, and calls the router back: for the payer's id, and for one of its own.
contract Reentrant {
    IRouter immutable router;
    bytes32 immutable id;
    bool public again;
    bool public used;

    constructor(IRouter router_, bytes32 id_) {
        router = router_;
        id = id_;
    }

    receive() external payable {
        if (again) return;
        again = true;
        used = router.paid(tx.origin, id);
        router.pay{value: msg.value}(id, payable(address(this)));
    }
}

/// Refuses every coin.
contract Closed {}
